//! Channels, whose messages carry regions of `tombolo`.

use std::sync::Arc;

use tombolo::internal::{RecipientInternals as _, RegionInternals as _};
use tombolo::{Recipient, Region, RegionError};
use tombolo_exchange::ChannelTypes;
use tombolo_region::{Account, Charge};

/// The regions in messages of an app.
pub(super) enum AppRegions {}

pub(super) type Channel = tombolo_exchange::Channel<AppRegions>;
pub(super) type Channels = tombolo_exchange::Channels<AppRegions>;
pub(super) type Message = tombolo_exchange::Message<Region>;
pub(super) type SenderEnd = tombolo_exchange::SenderEnd<AppRegions>;
pub(super) type ReceiverEnd = tombolo_exchange::ReceiverEnd<AppRegions>;
pub(super) type Writable = tombolo_exchange::Writable<AppRegions>;
pub(super) type Readable = tombolo_exchange::Readable<AppRegions>;

impl ChannelTypes for AppRegions {
    type Region = Region;
    type Recipient = Recipient;
    type Error = RegionError;

    fn size(region: &Region) -> u64 {
        region.size()
    }

    fn unpinned_spans(region: &Region) -> u64 {
        region.unpinned_spans()
    }

    fn set_queued(region: &Region, queued: bool) {
        region.set_queued(queued);
    }

    fn account(region: &Region) -> &Arc<Account> {
        &region.owner().account
    }

    fn account_of(to: &Recipient) -> &Arc<Account> {
        &to.owner().account
    }

    fn charge_claim(region: &Region, to: &Recipient) -> Result<Vec<Charge>, RegionError> {
        region.charge_claim(to.owner())
    }

    fn transferred(region: Region, to: &Recipient, handle: Charge, claim: Vec<Charge>) -> Region {
        region.transferred(to.owner(), handle, claim)
    }

    fn log_received(region: &Region, from: &str, to: &Recipient) {
        tracing::debug!(
            region = region.name(),
            id = %region.id(),
            from,
            to = &*to.owner().name,
            "region moved"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tombolo_exchange::{ChannelError, ChannelSettings, GuestId, Member, Unsent};

    use super::*;
    use tombolo::internal::{LimitsInternals as _, RegionHostInternals as _};
    use tombolo::{Limits, RegionHost};

    fn id(index: usize) -> GuestId {
        GuestId::new(index)
    }

    /// Guests 0 and 1 send to guest 2.
    fn channels(capacity: u32) -> Channels {
        let settings = ChannelSettings {
            name: "c".into(),
            to: "2".into(),
            capacity,
            message_bytes: 4,
            message_regions: 2,
        };
        let member = |index| Member {
            guest: id(index),
            restarts: index > 0,
            quota: limits().quota(),
        };
        let senders = vec![member(0), member(1)];
        Channels::new([Channel::new(settings, senders, member(2))])
    }

    /// Of each guest.
    fn limits() -> Limits {
        {
            let mut it = Limits::default();
            it.claimed_bytes = 100;
            it
        }
    }

    fn message(bytes: &[u8]) -> Message {
        Message {
            from: "0".into(),
            bytes: bytes.into(),
            regions: Vec::new(),
        }
    }

    fn send(end: &SenderEnd, bytes: &[u8]) -> Result<(), ChannelError> {
        end.try_send(message(bytes), |_| Ok::<_, Infallible>(()))
            .map_err(|unsent| match unsent {
                Unsent::Refused(why, _) => why,
                Unsent::Failed(never, _) => match never {},
            })
    }

    fn recipient() -> Recipient {
        RegionHost::new().context("2").build().recipient()
    }

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        let future = pin!(future);
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn messages_keep_their_order() {
        let channels = channels(2);
        let (one, other) = (
            channels.sender(id(0), "c").unwrap(),
            channels.sender(id(1), "c").unwrap(),
        );
        let receiver = channels.receiver(id(2), "c").unwrap();
        let (writable, readable) = (one.writable(), receiver.readable());
        assert!(is_ready(writable.ready()) && !is_ready(readable.ready()));
        send(&one, b"a").unwrap();
        send(&other, b"b").unwrap();
        assert!(matches!(send(&one, b"c"), Err(ChannelError::WouldBlock)));
        assert!(!is_ready(writable.ready()) && is_ready(readable.ready()));
        assert!(matches!(
            send(&one, b"12345"),
            Err(ChannelError::TooLarge(_))
        ));
        let to = recipient();
        assert_eq!(receiver.try_receive(&to).unwrap().bytes, b"a");
        assert_eq!(receiver.try_receive(&to).unwrap().bytes, b"b");
        assert!(matches!(
            receiver.try_receive(&to),
            Err(ChannelError::WouldBlock)
        ));
    }

    // rule 1
    #[test]
    fn nonmember_and_unknown_name_look_alike() {
        let channels = channels(1);
        for (guest, name) in [(2, "c"), (0, "d")] {
            assert!(matches!(
                channels.sender(id(guest), name),
                Err(ChannelError::NotPermitted)
            ));
        }
        for (guest, name) in [(0, "c"), (2, "d")] {
            assert!(matches!(
                channels.receiver(id(guest), name),
                Err(ChannelError::NotPermitted)
            ));
        }
    }

    #[test]
    fn channel_closes_with_its_last_sender() {
        let channels = channels(2);
        let receiver = channels.receiver(id(2), "c").unwrap();
        let one = channels.sender(id(0), "c").unwrap();
        send(&one, b"a").unwrap();
        one.close();
        channels.on_exit(id(1));
        let to = recipient();
        assert_eq!(receiver.try_receive(&to).unwrap().bytes, b"a");
        assert!(is_ready(receiver.readable().ready()));
        assert!(matches!(
            receiver.try_receive(&to),
            Err(ChannelError::Closed)
        ));
        // It may come back, as it is still there.
        let one = channels.sender(id(0), "c").unwrap();
        assert!(matches!(
            receiver.try_receive(&to),
            Err(ChannelError::WouldBlock)
        ));
        drop(one);
        assert!(
            matches!(receiver.try_receive(&to), Err(ChannelError::WouldBlock)),
            "its guest has died, and may be started again"
        );
    }

    #[test]
    fn restart_keeps_messages_and_exit_drops_them() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        assert!(matches!(
            channels.receiver(id(2), "c"),
            Err(ChannelError::WouldBlock)
        ));
        let host = RegionHost::new();
        let mut sent = message(b"a");
        sent.regions.push(host.create("r", 1).unwrap());
        assert!(one.try_send(sent, |_| Ok::<_, Infallible>(())).is_ok());
        // It dies, and lives again.
        drop(receiver);
        send(&one, b"b").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        assert!(is_ready(receiver.readable().ready()));
        drop(receiver);
        assert_eq!(host.counts().regions_freed, 0);
        let full = one.writable();
        assert!(!is_ready(full.ready()));
        channels.on_exit(id(2));
        assert_eq!(host.counts().regions_freed, 1);
        assert!(is_ready(full.ready()));
        assert!(matches!(send(&one, b"c"), Err(ChannelError::Closed)));
    }

    /// An endpoint that a guest drops on its way to a failure is not closed.
    #[test]
    fn restart_reopens_a_leaving_endpoint() {
        let channels = channels(2);
        let (one, other) = (
            channels.sender(id(0), "c").unwrap(),
            channels.sender(id(1), "c").unwrap(),
        );
        let receiver = channels.receiver(id(2), "c").unwrap();
        send(&one, b"a").unwrap();
        receiver.close();
        send(&one, b"b").unwrap();
        assert!(matches!(send(&one, b"c"), Err(ChannelError::WouldBlock)));
        channels.on_restart(id(2));
        let receiver = channels.receiver(id(2), "c").unwrap();
        let to = recipient();
        assert_eq!(receiver.try_receive(&to).unwrap().bytes, b"a");
        assert_eq!(receiver.try_receive(&to).unwrap().bytes, b"b");
        // The first sender is not started again, and the other one is.
        one.close();
        other.close();
        assert!(!is_ready(receiver.readable().ready()));
        channels.on_restart(id(1));
        let other = channels.sender(id(1), "c").unwrap();
        send(&other, b"d").unwrap();
        assert_eq!(receiver.try_receive(&to).unwrap().bytes, b"d");
        // By its own word, or when it ends in order.
        other.finish();
        assert!(matches!(
            receiver.try_receive(&to),
            Err(ChannelError::Closed)
        ));
        let one = channels.sender(id(0), "c").unwrap();
        receiver.close();
        assert!(send(&one, b"e").is_ok());
        channels.on_exit(id(2));
        assert!(matches!(send(&one, b"f"), Err(ChannelError::Closed)));
    }

    // rule 10
    #[test]
    fn unreceivable_message_is_refused() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let host = RegionHost::new();
        let refused = |sizes: &[u64]| {
            let mut sent = message(b"a");
            let regions = sizes.iter().map(|size| host.create("r", *size).unwrap());
            sent.regions.extend(regions);
            match one.try_send(sent, |_| Ok::<_, Infallible>(())) {
                Ok(()) => None,
                Err(Unsent::Refused(why, back)) => {
                    assert_eq!(back.regions.len(), sizes.len());
                    Some(why)
                }
                Err(Unsent::Failed(never, _)) => match never {},
            }
        };
        let Some(ChannelError::Refused(text)) = refused(&[60, 41]) else {
            panic!("more than the receiver may claim");
        };
        assert_eq!(
            text,
            "`2` could never take these regions: they are 101, over its limit `claimed-bytes`"
        );
        let Some(ChannelError::TooLarge(text)) = refused(&[1, 1, 1]) else {
            panic!("more than a message may have");
        };
        assert!(text.contains("3 regions"), "{text}");
        assert!(refused(&[60, 40]).is_none());
        // The receiver may have no room for it now, and need not wait for that.
        let receiver = channels.receiver(id(2), "c").unwrap();
        receiver.skip().unwrap();
        assert!(matches!(receiver.skip(), Err(ChannelError::WouldBlock)));
        assert_eq!(host.counts().regions_freed, host.counts().regions_created);
    }

    /// A queued region is charged to its sender, but does not go with it.
    // rule 6
    #[test]
    fn queued_region_outlives_its_sender() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        let host = RegionHost::new();
        let region = host.create("r", 1).unwrap();
        let sender = region.owner().clone();
        assert_eq!(host.exclusive_bytes(&sender), 0, "nobody touched it");
        region.try_write(0..1).unwrap()[0] = 1;
        let page = host.exclusive_bytes(&sender);
        assert!((1..=tombolo::GRANULE).contains(&page), "{page}");
        let mut sent = message(b"a");
        sent.regions.push(region);
        assert!(one.try_send(sent, |_| Ok::<_, Infallible>(())).is_ok());
        assert_eq!(host.exclusive_bytes(&sender), 0);
        let to = host.context("2").build().recipient();
        let received = receiver.try_receive(&to).unwrap();
        assert_eq!(host.exclusive_bytes(to.owner()), page);
        drop(received);
    }

    // rule 10
    #[test]
    fn refused_message_stays_the_next_one() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        let host = RegionHost::new();
        let mut sent = message(b"a");
        sent.regions.push(host.create("r", 1).unwrap());
        assert!(one.try_send(sent, |_| Ok::<_, Infallible>(())).is_ok());
        let limits = {
            let mut it = tombolo::Limits::default();
            it.regions = 0;
            it
        };
        let small = host.context("2").limits(limits).build();
        let Err(ChannelError::Exhausted(text)) = receiver.try_receive(&small.recipient()) else {
            panic!("there is no room");
        };
        assert!(text.contains("regions"), "{text}");
        let to = host.context("2").build().recipient();
        let received = receiver.try_receive(&to).unwrap();
        assert_eq!(&*received.regions[0].owner().name, "2");
    }
}
