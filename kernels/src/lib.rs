//! Kernel packages and the files inside them.
