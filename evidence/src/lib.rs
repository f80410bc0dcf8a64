//! Records that a guest sends home, and their framing.
