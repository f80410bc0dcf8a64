//! PID 1 of the guest. Loads the modules that the serial port needs, then takes orders over it:
//! load modules, store files, run a program, end the machine.
//!
//! A virtual machine is saved while stage 0 waits for its first order, so what it does before
//! depends on the kernel and the image alone. It knows neither Bluetooth nor BPF.

mod kmsg;
mod modules;
mod mounts;
mod orders;
mod port;
mod sys;

fn main() {
    if let Err(error) = run() {
        sys::console(&format!("stage0: {error}"));
    }
    // Without an init the kernel would panic; a restart ends QEMU, which runs with -no-reboot.
    sys::restart();
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    mounts::mount_all()?;
    let early = modules::load_set("bare", &mut |_, _| Ok(()));
    let port = port::open().inspect_err(|_| {
        sys::console(&format!("stage0: no serial port; modules: {early:?}"));
    })?;
    orders::serve(port)
}
