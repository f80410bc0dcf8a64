//! eBPF programs that measure Linux Bluetooth, and their loader.
