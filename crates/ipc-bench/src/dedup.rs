//! Measures the cost of remembered ids in the memory inbox: memory for each id, and time for one
//! more.
//!
//! Messages are put and taken in this process, without a network that would hide the cost.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipc_inbox::{Inbox, InboxSender, MemoryOptions, Message, Put};
use ipc_protocol::MessageId;
use serde_json::json;

use crate::failure::Failure;
use crate::options::Options;
use crate::process_stats::Memory;

/// How many messages are put before they are taken.
const ROUND: u64 = 1000;

/// How many of the first and of the last messages are timed.
const TIMED: u64 = 100_000;

/// Puts and takes messages, and prints a line of JSON.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let kind = match options.get::<String>("kind")?.as_deref() {
        None | Some("timed") => Kind::Timed,
        Some("random") => Kind::Random,
        Some(other) => return Err(format!("--kind must be timed or random, not {other}").into()),
    };
    let ids = options.get::<u64>("ids")?.unwrap_or(10_000_000).next_multiple_of(ROUND);
    options.refuse_unused()?;
    let timed = TIMED.min(ids / 2).next_multiple_of(ROUND);
    // All ids are of one user, who may have as many as there are.
    let most = usize::try_from(ids + timed)?;
    let options = MemoryOptions::default().remembered_ids_max(most).remembered_user_ids_max(most);
    let both = options.build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let user: Arc<str> = "ipc-admin".into();
        let mut draw = Ids { kind, random: Random(0x9e37_79b9_7f4a_7c15) };
        let before = Memory::now()?.resident;
        let first = put_and_take(&both, &user, &mut draw, timed).await?;
        put_and_take(&both, &user, &mut draw, ids - timed).await?;
        let bytes = Memory::now()?.resident.saturating_sub(before);
        let last = put_and_take(&both, &user, &mut draw, timed).await?;
        let result = json!({
            "ids": ids,
            "bytes_per_id": bytes as f64 / ids as f64,
            "put_ns_first": first.as_nanos() as f64 / timed as f64,
            "put_ns_last": last.as_nanos() as f64 / timed as f64,
        });
        println!("{result}");
        Ok(())
    })
}

/// The kind of the ids.
enum Kind {
    /// They contain the time of their creation, like those of a web-ipc client.
    Timed,
    /// They are random.
    Random,
}

struct Ids {
    kind: Kind,
    random: Random,
}

impl Ids {
    fn next(&mut self) -> Result<MessageId, Failure> {
        let bytes = self.random.bytes();
        Ok(match self.kind {
            Kind::Random => MessageId::from_random(bytes),
            Kind::Timed => {
                let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
                MessageId::from_time(
                    u64::try_from(millis)?,
                    *bytes.first_chunk().expect("16 bytes begin with 10"),
                )
            }
        })
    }
}

/// Puts and takes so many messages. Returns how long the puts took.
async fn put_and_take(
    (sender, inbox): &(InboxSender, Inbox),
    user: &Arc<str>,
    ids: &mut Ids,
    messages: u64,
) -> Result<Duration, Failure> {
    let received_at = SystemTime::now();
    let mut took = Duration::ZERO;
    for _ in 0..messages / ROUND {
        let message = |_| {
            Ok::<_, Failure>(Message {
                id: ids.next()?,
                user: Arc::clone(user),
                certificate: None,
                peer: None,
                received_at,
                body: r#"{"test":1}"#.into(),
                wants_reply: false,
            })
        };
        let batch: Vec<Message> = (0..ROUND).map(message).collect::<Result<_, _>>()?;
        let begun = Instant::now();
        for message in batch {
            if sender.put(message, Duration::ZERO).await? != Put::Accepted {
                return Err("a new id was taken for a duplicate".into());
            }
        }
        took += begun.elapsed();
        let mut taken = 0;
        while taken < ROUND {
            for delivery in inbox.recv_many(256).await {
                delivery.ack().await?;
                taken += 1;
            }
        }
    }
    Ok(took)
}

/// Ids that look as random as a client's, and cost no time (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self) -> [u8; 16] {
        let value = u128::from(self.next()) << 64 | u128::from(self.next());
        value.to_be_bytes()
    }
}
