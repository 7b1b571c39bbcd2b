//! The commands of sockets to a space's task: to join, to catch up, to leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::{Command, SpaceTask, Watcher};
use crate::domain::refusal::Code;
use crate::domain::{Day, Position, Refusal};
use crate::feed::own::{DaySnapshot, OwnUpdate, bytes_to};
use crate::feed::payload::joined_space;
use crate::feed::{Interest, Joined, Member, MemberId};
use crate::store::refuse::unavailable;
use crate::store::{LogRead, Message, MessageKind, Topic, is_portion};

/// How many commands are done before events get a turn.
const COMMANDS_AT_ONCE: usize = 256;

/// What a socket is sent after `joined_space`.
enum Prepared {
    Nothing,
    Snapshot(Arc<DaySnapshot>),
    Replay(Vec<Message>),
}

impl SpaceTask {
    /// Does a command and the commands that wait behind it, so that a crowd that joins shares its reads.
    ///
    /// A command that comes meanwhile waits for the next batch, because its sender may know of a newer version than this
    /// batch has read. Events get a turn between batches, however many sockets join.
    pub(super) async fn obey_all(&mut self, first: Command, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let mut waiting = vec![first];
        while waiting.len() < COMMANDS_AT_ONCE
            && let Ok(next) = commands.try_recv()
        {
            waiting.push(next);
        }
        self.begin_batch();
        for command in waiting {
            self.obey(command).await;
        }
        self.end_batch();
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join { member, interest, answer } => {
                let joined = self.join(member, interest).await;
                let _ = answer.send(joined);
            }
            Command::Sync { member, interest, answer } => {
                let synced = self.sync(member, interest).await;
                let _ = answer.send(synced);
            }
            Command::Leave { member, answer } => {
                self.remove(member);
                let _ = answer.send(());
            }
        }
    }

    async fn join(&mut self, member: Arc<dyn Member>, interest: Interest) -> Result<Joined, Refusal> {
        let id = member.id();
        let (prepared, at) = self.prepare(&member, &interest).await?;
        let joined = Joined { at, recovered: matches!(prepared, Prepared::Replay(_)) };
        member.send("joined_space", &joined_space(self.space, &joined, self.store_now()));
        self.feed.app.metrics.count_event_out("joined_space", 1);
        self.place(id, member, interest.day, prepared, &joined.at);
        Ok(joined)
    }

    async fn sync(&mut self, id: MemberId, interest: Interest) -> Result<Joined, Refusal> {
        let Some(member) = self.watchers.get(&id).map(|watcher| watcher.member.clone()) else {
            return Err(not_joined());
        };
        let (prepared, at) = self.prepare(&member, &interest).await?;
        let recovered = matches!(prepared, Prepared::Replay(_));
        self.place(id, member, interest.day, prepared, &at);
        Ok(Joined { at, recovered })
    }

    /// Puts a member at `at`, and sends it `prepared`, which brings the member there. From then on the member gets
    /// every event.
    fn place(&mut self, id: MemberId, member: Arc<dyn Member>, day: Option<Day>, prepared: Prepared, at: &Position) {
        let before = self.watchers.remove(&id);
        if before.is_none() {
            self.member_count.fetch_add(1, Ordering::Relaxed);
        }
        let (day_before, was_behind) = before.map_or((None, false), |watcher| (watcher.day, watcher.is_behind));
        let day = day.or(day_before);
        // The new day is noted before the old one is given up, so that a due start of a slot stays due.
        if let Some(day) = day {
            // The batch's beginning counts as the time. A slot that has started since may not be past yet in the snapshot.
            self.days.ask_for(day, self.schedule.as_deref(), self.batch.begun);
        }
        if let Some(before) = day_before {
            self.days.give_up(before);
        }
        // A member that waits for a snapshot keeps waiting if it joins again without asking for anything.
        let is_behind = was_behind && matches!(prepared, Prepared::Nothing);
        let ahead = self.ahead_at(at);
        self.watchers.insert(id, Watcher { member, day, is_behind, ahead });
        self.send_prepared(id, prepared);
    }

    /// Reads what a socket is to be sent. Answers the position to which this brings the socket: that of the other
    /// members, or a later one.
    async fn prepare(
        &mut self,
        member: &Arc<dyn Member>,
        interest: &Interest,
    ) -> Result<(Prepared, Position), Refusal> {
        if interest.day.is_some() {
            self.learn_schedule().await?;
        }
        if interest.since.as_ref() == Some(self.follower.at()) && self.is_confirmed() {
            return Ok((Prepared::Replay(Vec::new()), self.follower.at().clone()));
        }
        if let Some(since) = &interest.since
            && let Some((replay, at)) = self.read_replay(member, since).await?
            && member.admits_replay(replay.len(), bytes_of(&replay, member))
        {
            if interest.day.is_some() {
                // An event of the replay may have made the task forget the schedule, and the starts of the day's slots
                // follow from it.
                self.learn_schedule().await?;
            }
            return Ok((Prepared::Replay(replay), at));
        }
        let is_ahead = self.watchers.get(&member.id()).is_some_and(|watcher| watcher.ahead.is_some());
        if interest.since.is_none() && interest.day.is_none() {
            let at = self.find_head(!is_ahead).await?;
            return Ok((Prepared::Nothing, at));
        }
        let known = self.watchers.get(&member.id()).and_then(|watcher| watcher.day);
        let day = match interest.day.or(known) {
            Some(day) => day,
            None => self.today().await?,
        };
        let shown = if is_ahead { self.read_snapshot(day).await? } else { self.snapshot(day).await? };
        Ok((Prepared::Snapshot(shown.snapshot), shown.at))
    }

    /// The missed updates, and the position to which they lead. `None` if the log lacks some, or if something other
    /// than an update was missed.
    async fn read_replay(
        &mut self,
        member: &Arc<dyn Member>,
        since: &Position,
    ) -> Result<Option<(Vec<Message>, Position)>, Refusal> {
        let store = self.feed.app.store.clone();
        let mut messages = Vec::new();
        loop {
            let from = messages.last().map_or(since, |message: &Message| &message.at).clone();
            match store.read_log(Topic::Space(self.space), &from).await.map_err(|error| unavailable(&error))? {
                LogRead::Messages(portion) => {
                    let is_more = is_portion(&portion);
                    messages.extend(portion);
                    if !is_more {
                        break;
                    }
                    if !member.admits_replay(0, bytes_of(&messages, member)) {
                        return Ok(None);
                    }
                }
                LogRead::Gone(head) => {
                    // The store may have lost writes, so the task's memory must not be shown as the present state.
                    self.meet(&head).await?;
                    return Ok(None);
                }
            }
        }
        let target = messages.last().map_or(since, |message| &message.at).clone();
        let is_exact = self.meet(&target).await? == target;
        let all_updates = messages.iter().all(|message| message.kind == MessageKind::SlotUpdate);
        Ok((is_exact && all_updates).then_some((messages, target)))
    }

    fn send_prepared(&mut self, member: MemberId, prepared: Prepared) {
        let Some(watcher) = self.watchers.get(&member) else { return };
        let metrics = &self.feed.app.metrics;
        match prepared {
            Prepared::Nothing => {}
            Prepared::Snapshot(snapshot) => {
                snapshot.send_to(watcher.member.as_ref());
                metrics.feed_snapshots.inc();
                metrics.count_event_out("slots_status_update", 1);
            }
            Prepared::Replay(messages) => {
                let terms = self.own_terms();
                messages.iter().for_each(|message| OwnUpdate::new(message, terms).send_to(watcher.member.as_ref()));
                metrics.count_event_out("slot_update", messages.len() as u64);
            }
        }
    }
}

pub(super) fn refuse_waiting(commands: &mut mpsc::UnboundedReceiver<Command>) {
    while let Ok(command) = commands.try_recv() {
        match command {
            Command::Join { answer, .. } | Command::Sync { answer, .. } => {
                let _ = answer.send(Err(Code::Unavailable.into()));
            }
            Command::Leave { answer, .. } => {
                let _ = answer.send(());
            }
        }
    }
}

fn bytes_of(messages: &[Message], member: &Arc<dyn Member>) -> usize {
    messages.iter().map(|message| bytes_to(message, member.as_ref())).sum()
}

fn not_joined() -> Refusal {
    Refusal::because(Code::NotFound, "join_space first")
}
