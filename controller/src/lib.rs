//! Virtual Bluetooth controller: HCI codec, model, air, ledger, transports.
