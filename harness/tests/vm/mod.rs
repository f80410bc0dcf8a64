mod can_fail;
mod kernels;
mod left_behind;
