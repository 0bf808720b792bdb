//! Errors in an app's description, which show without a look at the guests' components.

use super::error::{NamedBy, StartError};
use crate::builder::AppBuilder;
use crate::handle::{self, NoSuchGuest};
use crate::oom_policy::MAX_SCORE;
use crate::spec::ChannelSpec;
use tombolo::internal::half_of_available;

/// The most bytes of host memory that a message takes besides its own bytes.
const MESSAGE_OVERHEAD: u64 = 512;

impl AppBuilder {
    /// Finds what is wrong with the OOM policy, the calls, the channels and the scopes.
    pub(super) fn description_errors(&self, errors: &mut Vec<StartError>) {
        self.policy_errors(errors);
        self.name_errors(errors);
        self.channel_errors(errors);
        self.scope_errors(errors);
    }

    fn exists(&self, guest: &str) -> Result<(), NoSuchGuest> {
        handle::exists(guest, self.guests.iter().map(|guest| &*guest.name))
    }

    /// Finds scores for no guest, and those that are too high.
    fn policy_errors(&self, errors: &mut Vec<StartError>) {
        for (guest, score) in &self.policy.scores {
            if let Err(error) = self.exists(guest) {
                errors.push(error.into());
            }
            if *score > MAX_SCORE {
                errors.push(StartError::OomScore {
                    guest: guest.clone(),
                    score: *score,
                });
            }
        }
        if self.policy.floor > MAX_SCORE {
            errors.push(StartError::OomFloor {
                floor: self.policy.floor,
            });
        }
    }

    /// Finds calls, channels and scopes that name guests which do not exist.
    fn name_errors(&self, errors: &mut Vec<StartError>) {
        let mut need = |by: NamedBy, guests: &mut dyn Iterator<Item = &String>| {
            for guest in guests {
                if let Err(missing) = self.exists(guest) {
                    let by = by.clone();
                    errors.push(StartError::Names { by, missing });
                }
            }
        };
        for call in self.may_call.iter().flatten() {
            let by = NamedBy::Call {
                from: call.from.clone(),
                to: call.to.clone(),
            };
            need(by, &mut [&call.from, &call.to].into_iter());
        }
        for channel in &self.channels {
            let guests = channel.from.iter().chain([&channel.to]);
            need(NamedBy::Channel(channel.name.clone()), &mut { guests });
        }
        for scope in &self.scopes {
            let guests = scope.members.iter().map(|(guest, _)| guest);
            need(NamedBy::Scope(scope.name.clone()), &mut { guests });
        }
    }

    /// Finds channels that could hold nothing or too much, and those with the name of another.
    fn channel_errors(&self, errors: &mut Vec<StartError>) {
        for (index, channel) in self.channels.iter().enumerate() {
            channel_size_errors(channel, errors);
            let before = &self.channels[..index];
            if before.iter().any(|other| other.name == channel.name) {
                errors.push(StartError::DuplicateChannel {
                    channel: channel.name.clone(),
                });
            }
        }
    }

    /// Finds scopes with the name of another.
    fn scope_errors(&self, errors: &mut Vec<StartError>) {
        for (index, scope) in self.scopes.iter().enumerate() {
            let before = &self.scopes[..index];
            if before.iter().any(|other| other.name == scope.name) {
                errors.push(StartError::DuplicateScope {
                    scope: scope.name.clone(),
                });
            }
        }
    }
}

/// Finds a capacity of 0, and messages that take more memory than there is.
fn channel_size_errors(channel: &ChannelSpec, errors: &mut Vec<StartError>) {
    if channel.capacity == 0 {
        errors.push(StartError::Capacity {
            channel: channel.name.clone(),
        });
    }
    if channel.message_bytes > ChannelSpec::MOST_BYTES {
        errors.push(StartError::MessageBytes {
            channel: channel.name.clone(),
            bytes: channel.message_bytes,
        });
    }
    let each = channel.message_bytes.saturating_add(MESSAGE_OVERHEAD);
    let bytes = each.saturating_mul(channel.capacity.into());
    let most = half_of_available();
    if bytes > most {
        errors.push(StartError::Queue {
            channel: channel.name.clone(),
            bytes,
            most,
        });
    }
}
