//! From kernel packages to a bootable guest image.
