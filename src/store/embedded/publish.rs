//! Messages to users and to everyone, and commands.

use redb::ReadableTable;

use super::batch::{Batch, raw_json};
use super::failure::Failure;
use crate::domain::event::to_json;
use crate::domain::{Bucket, Day, SpaceKey, UserId};
use crate::store::{
    DisconnectUser, KEEP_MILLIS, Message, MessageKind, Publication, ShowBoard, Topic, USER_LOG_LENGTH, UserMessage,
};

/// Announces a publication.
pub(super) fn publish(batch: &mut Batch<'_>, publication: Publication) -> Result<(), Failure> {
    match publication {
        Publication::ToUser { user, event, data } => send_to_user(batch, user, event, data),
        Publication::ToEveryone(message) => {
            let topic = Topic::Bucket(Bucket::EVERYONE);
            batch.append(topic, MessageKind::Everyone, |_| to_json(&message)).map(drop)
        }
        Publication::DisconnectUser(user) => disconnect_user(batch, user),
        Publication::ShowBoard(space, day) => show_board(batch, space, day),
    }
}

fn send_to_user(
    batch: &mut Batch<'_>,
    user: UserId,
    event: String,
    data: Box<serde_json::value::RawValue>,
) -> Result<(), Failure> {
    let (last, received) = read_user(&batch.tables().users, &user)?;
    // The number is at least the time, so no number is given twice, even after a restore of a backup: a connected socket
    // would take a new message with an old number for one that it has.
    let sequence = (last + 1).max(u64::try_from(batch.now().as_millis()).unwrap_or(0));
    let ends = batch.now().plus_millis(KEEP_MILLIS).as_millis();
    let topic = Topic::Bucket(user.bucket());
    let message = UserMessage { user, sequence, event, data };
    let json = to_json(&message);
    let user = message.user.as_str();

    let tables = batch.write();
    tables.users.insert(user, (sequence, received))?;
    tables.user_log.insert((user, sequence), (ends, json.as_str()))?;
    tables.user_log_ends.insert((ends, user, sequence), ())?;
    for (sequence, ends) in too_old(&tables.user_log, user)? {
        tables.user_log.remove((user, sequence))?;
        tables.user_log_ends.remove((ends, user, sequence))?;
    }
    batch.append(topic, MessageKind::User, |_| json).map(drop)
}

/// The sequences and ends of the user's messages beyond the bound.
fn too_old(
    user_log: &impl ReadableTable<(&'static str, u64), (i64, &'static str)>,
    user: &str,
) -> Result<Vec<(u64, i64)>, Failure> {
    let mut old = Vec::new();
    for row in user_log.range((user, 0)..=(user, u64::MAX))?.rev().skip(USER_LOG_LENGTH) {
        let (key, row) = row?;
        old.push((key.value().1, row.value().0));
    }
    Ok(old)
}

fn disconnect_user(batch: &mut Batch<'_>, user: UserId) -> Result<(), Failure> {
    let topic = Topic::Bucket(user.bucket());
    let command = DisconnectUser { user, before: batch.now() };
    announce_unkept(batch, topic, MessageKind::Disconnect, to_json(&command))
}

fn show_board(batch: &mut Batch<'_>, space: SpaceKey, day: Day) -> Result<(), Failure> {
    announce_unkept(batch, Topic::Space(space), MessageKind::ShowBoard, to_json(&ShowBoard { date: day }))
}

fn announce_unkept(batch: &mut Batch<'_>, topic: Topic, kind: MessageKind, payload: String) -> Result<(), Failure> {
    let message = Message { at: batch.head(topic)?, kind, payload: raw_json(payload)?, owned: None, written: None };
    batch.announce(topic, message);
    Ok(())
}

/// Remembers the last message that the user has received. The number never goes back, and never exceeds the last sent one.
pub(super) fn mark_received(batch: &mut Batch<'_>, user: &UserId, sequence: u64) -> Result<(), Failure> {
    let (last, received) = read_user(&batch.tables().users, user)?;
    let now_received = sequence.min(last);
    if now_received > received {
        batch.write().users.insert(user.as_str(), (last, now_received))?;
    }
    Ok(())
}

/// The sequence of the user's last message, and of the last one that a socket has received.
pub(super) fn read_user(
    users: &impl ReadableTable<&'static str, (u64, u64)>,
    user: &UserId,
) -> Result<(u64, u64), Failure> {
    Ok(users.get(user.as_str())?.map_or((0, 0), |row| row.value()))
}
