//! The channel report that the host's `channel.rs` needs, without the rest of the app.

#[derive(Clone, Debug, Default)]
pub(super) struct ChannelReport {
    pub(super) name: String,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) dropped: u64,
    pub(super) bytes: u64,
    pub(super) regions: u64,
}
