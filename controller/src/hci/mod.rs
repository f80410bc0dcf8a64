//! HCI on the wire: what a packet's bytes mean, typed, in both directions.

pub(crate) mod event;
pub(crate) mod le_event;
pub(crate) mod packet;
pub(crate) mod wire;
