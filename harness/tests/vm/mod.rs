mod can_fail;
mod exporter;
mod kernels;
mod left_behind;
