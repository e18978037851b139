//! Collects the answers to entries, and writes as many into a frame as a message may hold.
//!
//! The driver adds answers as it learns them. It takes a frame when the connection has room for
//! one.

use std::collections::VecDeque;
use std::sync::Arc;

use ipc_protocol::{
    ChannelAnswer, ChannelReason, ChannelReply, MessageId, ProblemCode, REASON_BYTES_MAX,
    REPLY_ADDRESS, RefusedFrom, Settled, to_reason, write_channel_answer, write_frame_around,
};

/// The maximum length of a frame without its answers, in bytes.
const AROUND_BYTES: usize = 256;

/// The maximum length of a range of settled entries in bytes: two numbers, a code and punctuation.
const SETTLED_BYTES: usize = 72;

/// The maximum length of a reply without its body, in bytes.
const REPLY_BYTES: usize = 64;

/// The maximum length of a reason in bytes: as text, in which a quotation mark takes two, and what
/// is around it.
const REASON_BYTES: usize = 2 * REASON_BYTES_MAX + 48;

/// A reply on its way to the peer.
#[derive(Debug)]
struct Reply {
    entry: u64,
    is_duplicate: bool,
    body: Arc<str>,
}

/// The answers that were not sent yet.
#[derive(Debug, Default)]
pub(super) struct Answers {
    settled: Vec<Settled<'static>>,
    /// In the order of their entries in `settled`, each of which is a range of its own.
    reasons: VecDeque<ChannelReason<'static>>,
    refused: Option<RefusedFrom<'static>>,
    replies: VecDeque<Reply>,
    replies_bytes: usize,
}

impl Answers {
    /// Adds the code of a settled entry.
    pub(super) fn settle(&mut self, entry: u64, code: &'static str) {
        match self.settled.last_mut() {
            Some(run)
                if run.code == code
                    && run.last.checked_add(1) == Some(entry)
                    && self.reasons.back().is_none_or(|reason| reason.entry != run.last) =>
            {
                run.last = entry
            }
            _ => self.settled.push(Settled { first: entry, last: entry, code }),
        }
    }

    /// Adds a request that the application declined, with its reason.
    pub(super) fn decline(&mut self, entry: u64, reason: &str) {
        let code = ProblemCode::NotAnswered.as_str();
        self.settled.push(Settled { first: entry, last: entry, code });
        let reason = to_reason(reason).into();
        self.reasons.push_back(ChannelReason { entry, reason });
    }

    /// Adds a refusal of all entries from a number on.
    pub(super) fn refuse(&mut self, from: u64, code: ProblemCode) {
        self.refused = Some(RefusedFrom { from, code: code.as_str() });
    }

    /// Adds the reply to a request.
    pub(super) fn reply(&mut self, entry: u64, is_duplicate: bool, body: Arc<str>) {
        self.replies_bytes += body.len() + REPLY_BYTES;
        self.replies.push_back(Reply { entry, is_duplicate, body });
    }

    /// Drops the replies.
    pub(super) fn drop_replies(&mut self) {
        self.replies = VecDeque::new();
        self.replies_bytes = 0;
    }

    /// Drops all answers.
    pub(super) fn clear(&mut self) {
        *self = Answers::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.refused.is_none() && self.replies.is_empty()
    }

    /// Whether there are replies among the answers.
    pub(super) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The approximate length of all answers in bytes.
    pub(super) fn len(&self) -> usize {
        self.settled.len() * SETTLED_BYTES + self.reasons.len() * REASON_BYTES + self.replies_bytes
    }

    /// The length of the next reply, if it goes out next and does not fit into a frame of
    /// `bytes_max`.
    pub(super) fn long_reply(&self, bytes_max: usize) -> Option<usize> {
        let is_alone = self.settled.is_empty() && self.refused.is_none();
        let first = self.replies.front().filter(|_| is_alone)?;
        let bytes = first.body.len() + REPLY_BYTES + AROUND_BYTES;
        (bytes > bytes_max).then_some(first.body.len())
    }

    /// Drops the reply that would go out next, and settles its request with a code.
    pub(super) fn settle_first_reply(&mut self, code: ProblemCode) {
        if let Some(reply) = self.replies.pop_front() {
            self.replies_bytes -= reply.body.len() + REPLY_BYTES;
            self.settle(reply.entry, code.as_str());
        }
    }

    /// Appends to `buffer` the plaintext of a frame with as many answers as fit into `bytes_max`,
    /// at least one. A reply that does not fit goes into a frame alone, which then is longer.
    pub(super) fn write_frame(&mut self, buffer: &mut Vec<u8>, id: MessageId, bytes_max: usize) {
        let room = bytes_max.saturating_sub(AROUND_BYTES);
        let (runs, reasons) = self.runs_and_reasons_within(room);
        let later = self.settled.split_off(runs);
        let mut bytes = runs * SETTLED_BYTES + reasons.len() * REASON_BYTES;
        // A refusal goes out after all settled entries, so that those behind it are not settled
        // later.
        let refused = if later.is_empty() { self.refused.take() } else { None };
        let fits = |reply: &&Reply| {
            bytes += reply.body.len() + REPLY_BYTES;
            bytes <= room
        };
        let mut replies =
            if later.is_empty() { self.replies.iter().take_while(fits).count() } else { 0 };
        if replies == 0 && runs == 0 && refused.is_none() {
            replies = 1;
        }
        let settled = std::mem::replace(&mut self.settled, later);
        if replies == 0 {
            buffer.reserve(AROUND_BYTES + bytes);
            let answer = ChannelAnswer { settled, reasons, refused, replies: Vec::new() };
            write(buffer, id, &answer);
            if self.settled.is_empty() {
                // Keeps the memory for the next answers.
                self.settled = answer.settled;
                self.settled.clear();
            }
            return;
        }
        let gone: Vec<Reply> = self.replies.drain(..replies.min(self.replies.len())).collect();
        let gone_bytes: usize = gone.iter().map(|reply| reply.body.len() + REPLY_BYTES).sum();
        self.replies_bytes -= gone_bytes;
        buffer.reserve(AROUND_BYTES + runs * SETTLED_BYTES + gone_bytes);
        let replies = gone.iter().map(|reply| ChannelReply {
            entry: reply.entry,
            is_duplicate: reply.is_duplicate,
            body: &reply.body,
        });
        write(buffer, id, &ChannelAnswer { settled, reasons, refused, replies: replies.collect() });
    }

    /// How many ranges of settled entries fit into `room` bytes with their reasons, at least one,
    /// and these reasons. Where even one range does not fit with its reason, it goes without.
    fn runs_and_reasons_within(&mut self, room: usize) -> (usize, Vec<ChannelReason<'static>>) {
        if self.reasons.is_empty() {
            return (self.settled.len().min((room / SETTLED_BYTES).max(1)), Vec::new());
        }
        let (mut runs, mut reasons, mut bytes) = (0, Vec::new(), 0);
        for run in &self.settled {
            let has_reason = self.reasons.front().is_some_and(|reason| reason.entry == run.first);
            bytes += SETTLED_BYTES + if has_reason { REASON_BYTES } else { 0 };
            if bytes > room && runs > 0 {
                break;
            }
            runs += 1;
            if has_reason {
                let reason = self.reasons.pop_front();
                reasons.extend(reason.filter(|_| bytes <= room));
            }
        }
        (runs, reasons)
    }
}

fn write(buffer: &mut Vec<u8>, id: MessageId, answer: &ChannelAnswer<'_>) {
    write_frame_around(buffer, REPLY_ADDRESS, id, None, |buffer| {
        write_channel_answer(buffer, answer)
    });
}

#[cfg(test)]
mod tests {
    use ipc_protocol::Frame;

    use super::*;

    fn id() -> MessageId {
        MessageId::from_random([7; 16])
    }

    /// The texts of all frames. Checks that none is longer than allowed.
    fn frames(answers: &mut Answers, bytes_max: usize) -> Vec<String> {
        let mut frames = Vec::new();
        while !answers.is_empty() {
            let mut buffer = Vec::new();
            let is_long = answers.long_reply(bytes_max).is_some();
            answers.write_frame(&mut buffer, id(), bytes_max);
            assert!(is_long || buffer.len() <= bytes_max, "{}", buffer.len());
            let frame = Frame::parse(&buffer).unwrap().reply_to(id()).unwrap();
            assert!(frame.channel_answer().is_ok());
            frames.push(frame.object().unwrap().to_owned());
        }
        assert_eq!(answers.len(), 0);
        frames
    }

    #[test]
    fn entries_that_follow_each_other_with_one_answer_are_one_run() {
        let mut answers = Answers::default();
        for entry in 0..5 {
            answers.settle(entry, "accepted");
        }
        answers.settle(5, "duplicate");
        answers.settle(7, "duplicate");
        answers.refuse(8, ProblemCode::InboxFull);
        answers.reply(6, true, r#"{"a":1}"#.into());
        assert_eq!(
            frames(&mut answers, 10_000),
            [
                r#"{"settled":[[0,4,"accepted"],[5,5,"duplicate"],[7,7,"duplicate"]],"refused":{"from":8,"code":"inbox_full"},"replies":[{"entry":6,"duplicate":true,"body":{"a":1}}]}"#
            ]
        );
        answers.settle(9, "accepted");
        assert_eq!(frames(&mut answers, 10_000), [r#"{"settled":[[9,9,"accepted"]]}"#]);
    }

    #[test]
    fn a_declined_request_has_its_reason_in_its_own_frame() {
        let mut answers = Answers::default();
        answers.settle(0, "not_answered");
        answers.decline(1, "no \"such\"\nfile");
        answers.settle(2, "not_answered");
        answers.settle(3, "not_answered");
        answers.reply(4, false, "{}".into());
        assert_eq!(
            frames(&mut answers, 10_000),
            [
                r#"{"settled":[[0,0,"not_answered"],[1,1,"not_answered"],[2,3,"not_answered"]],"reasons":[{"entry":1,"reason":"no \"such\" file"}],"replies":[{"entry":4,"body":{}}]}"#
            ]
        );
        for entry in 0..100 {
            match entry % 3 {
                0 => answers.settle(u64::MAX - 500 + entry, "accepted"),
                _ => answers.decline(u64::MAX - 500 + entry, &"\"".repeat(300)),
            }
        }
        let frames = frames(&mut answers, 2000);
        let count = |frame: &String, text: &str| frame.matches(text).count();
        assert_eq!(frames.iter().map(|frame| count(frame, "reason\":")).sum::<usize>(), 66);
        for frame in &frames {
            assert_eq!(count(frame, "\"not_answered\""), count(frame, "reason\":"), "{frame}");
        }
    }

    #[test]
    fn a_reason_that_fits_into_no_frame_is_left_out() {
        let mut answers = Answers::default();
        answers.decline(7, &"x".repeat(200));
        answers.decline(8, "no");
        assert_eq!(
            frames(&mut answers, AROUND_BYTES + SETTLED_BYTES),
            [r#"{"settled":[[7,7,"not_answered"]]}"#, r#"{"settled":[[8,8,"not_answered"]]}"#]
        );
    }

    #[test]
    fn what_does_not_fit_into_a_frame_goes_into_the_next_and_a_long_reply_alone() {
        let mut answers = Answers::default();
        for entry in 0..100 {
            answers.settle(u64::MAX - 200 + 2 * entry, ProblemCode::ReplyForgotten.as_str());
        }
        answers.refuse(3, ProblemCode::Unavailable);
        for entry in [1, 2] {
            answers.reply(entry, false, format!(r#"{{"a":"{}"}}"#, "x".repeat(400)).into());
        }
        answers.reply(3, false, format!(r#"{{"a":"{}"}}"#, "x".repeat(4000)).into());
        answers.reply(4, false, "{}".into());
        let frames = frames(&mut answers, 1000);
        let settled: usize =
            frames.iter().map(|frame| frame.matches("reply_forgotten").count()).sum();
        assert_eq!(settled, 100);
        let with = |text: &str| frames.iter().position(|frame| frame.contains(text)).unwrap();
        let last_settled = frames.iter().rposition(|frame| frame.contains("settled")).unwrap();
        assert_eq!(with("refused"), last_settled, "what is behind a refusal is settled no later");
        assert!(frames[with(r#""entry":3"#)].starts_with(r#"{"replies":[{"entry":3,"#));
        assert_eq!(frames[with(r#""entry":3"#)].matches("entry").count(), 1);
        assert!(
            with(r#""entry":1"#) < with(r#""entry":2"#)
                && with(r#""entry":3"#) < with(r#""entry":4"#)
        );
    }

    #[test]
    fn a_reply_for_which_there_is_no_memory_is_settled_instead() {
        let mut answers = Answers::default();
        answers.reply(5, false, format!(r#"{{"a":"{}"}}"#, "x".repeat(4000)).into());
        assert_eq!(answers.long_reply(1000), Some(4008));
        answers.settle_first_reply(ProblemCode::Unavailable);
        assert_eq!(frames(&mut answers, 1000), [r#"{"settled":[[5,5,"unavailable"]]}"#]);
    }
}
