//! The metric catalogue, snapshots of metric values, and their difference.
