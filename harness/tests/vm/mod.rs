mod btvirt;
mod can_fail;
mod exporter;
mod foretold;
mod kernels;
mod left_behind;
mod trust;
mod usb;
