//! What runs in the guest: sockets, controllers, scenarios.
