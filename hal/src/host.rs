//! What the machine calls itself.

/// The host name as the kernel knows it; what is not UTF-8 is replaced.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
