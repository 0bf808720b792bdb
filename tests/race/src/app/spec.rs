//! The channel description that the host's `channel.rs` needs, without the rest of the app.

pub(super) struct ChannelSpec {
    pub(super) name: String,
    pub(super) to: String,
    pub(super) capacity: u32,
    pub(super) message_bytes: u64,
    pub(super) message_regions: u32,
}
