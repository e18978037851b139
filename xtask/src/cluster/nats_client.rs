//! A NATS client of the few words that the verdict needs: it asks JetStream for its state, and
//! reads the stored messages.
//!
//! It is not the client of web-ipc, so that the verdict does not rest on what is tested. The
//! protocol: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long an answer may take. Without an answer the caller asks another server.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The first part of the subjects on which answers come.
const INBOX: &str = "_INBOX.xtask";

/// A connection to one NATS server.
pub(super) struct NatsClient {
    stream: BufReader<TcpStream>,
    answer_within: Duration,
    /// The number of the next request.
    next: usize,
}

impl NatsClient {
    /// Connects to the server on this loopback port.
    pub(super) fn connect(port: u16) -> Result<Self, String> {
        Self::connect_for(port, ANSWER_WITHIN)
    }

    /// Connects to the server on this loopback port. An answer may take `answer_within`.
    pub(super) fn connect_for(port: u16, answer_within: Duration) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("NATS on port {port}: {error}");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        stream.set_read_timeout(Some(answer_within)).map_err(failed)?;
        let mut client = NatsClient { stream: BufReader::new(stream), answer_within, next: 0 };
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\n\
             SUB {INBOX}.* 1\r\nPING\r\n"
        );
        client.write(hello.as_bytes())?;
        while client.line()? != "PONG" {}
        Ok(client)
    }

    /// Sends a request, and waits for its answer, a JSON value.
    pub(super) fn ask(&mut self, subject: &str, payload: &str) -> Result<Value, String> {
        self.ask_all(subject, [payload.to_owned()].into_iter())?
            .pop()
            .ok_or_else(|| "no answer".to_owned())
    }

    /// Sends requests together, and waits for all answers. They are in the order of the requests.
    pub(super) fn ask_all(
        &mut self,
        subject: &str,
        payloads: impl Iterator<Item = String>,
    ) -> Result<Vec<Value>, String> {
        let (first, mut text) = (self.next, String::new());
        for payload in payloads {
            let (number, length) = (self.next, payload.len());
            text += &format!("PUB {subject} {INBOX}.{number} {length}\r\n{payload}\r\n");
            self.next += 1;
        }
        self.write(text.as_bytes())?;
        let mut answers: Vec<Option<Value>> = vec![None; self.next - first];
        let mut until = Instant::now() + self.answer_within;
        while answers.iter().any(Option::is_none) {
            let (number, payload) = self.message(until)?;
            until = Instant::now() + self.answer_within;
            // An answer to a request that was given up comes late.
            if let Some(place) = number.checked_sub(first).and_then(|place| answers.get_mut(place))
            {
                *place = Some(payload);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Reads the next message: the number of its request, and its payload.
    fn message(&mut self, until: Instant) -> Result<(usize, Value), String> {
        loop {
            // The server's pings are no answer.
            if Instant::now() >= until {
                return Err("NATS does not answer".to_owned());
            }
            let line = self.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let (subject, header_bytes, bytes) = match words[..] {
                ["MSG", subject, _, bytes] => (subject, "0", bytes),
                ["HMSG", subject, _, header_bytes, bytes] => (subject, header_bytes, bytes),
                ["PING"] => {
                    self.write(b"PONG\r\n")?;
                    continue;
                }
                ["-ERR", ..] => return Err(format!("NATS: {line}")),
                _ => continue,
            };
            let wrong = || format!("NATS sent `{line}`");
            let number = subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let number = number.ok_or_else(wrong)?;
            let header_bytes: usize = header_bytes.parse().map_err(|_| wrong())?;
            let bytes: usize = bytes.parse().map_err(|_| wrong())?;
            let mut content = vec![0; bytes + 2];
            self.stream.read_exact(&mut content).map_err(|error| format!("NATS: {error}"))?;
            let payload = content.get(header_bytes..bytes).ok_or_else(wrong)?;
            if payload.is_empty() {
                return Err("JetStream has no leader now".to_owned());
            }
            let payload = serde_json::from_slice(payload).map_err(|_| wrong())?;
            return Ok((number, payload));
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("NATS closed the connection".to_owned()),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(format!("NATS: {error}")),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.get_mut().write_all(bytes).map_err(|error| format!("NATS: {error}"))
    }
}

/// Decodes base64, with the padding of RFC 4648, in which JetStream's answers have bodies.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, plain) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(base64("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(base64("a b"), None);
    }

    /// A server that says this, whatever it is asked.
    fn answering(said: &'static str) -> NatsClient {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"INFO {}\r\nPONG\r\n").unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            // Until the client is gone.
            let _ = stream.read(&mut [0; 1]);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        NatsClient::connect(port).unwrap()
    }

    #[test]
    fn answers_come_in_any_order_with_headers_and_pings_between() {
        let mut client = answering(
            "PING\r\nMSG _INBOX.xtask.1 1 1\r\n7\r\nHMSG _INBOX.xtask.0 1 12 13\r\nNATS/1.0\r\n\r\n5\r\n",
        );
        let payloads = ["a", "b"].map(str::to_owned).into_iter();
        assert_eq!(client.ask_all("s", payloads).unwrap(), [Value::from(5), Value::from(7)]);
    }

    #[test]
    fn pings_are_no_answer() {
        let pings: String = "PING\r\n".repeat(100_000);
        let mut client = answering(pings.leak());
        let late = Instant::now();
        assert!(client.message(late).unwrap_err().contains("does not answer"));
    }

    #[test]
    fn an_error_and_an_answer_of_nobody_are_told() {
        assert!(answering("-ERR 'no'\r\n").ask("s", "").unwrap_err().contains("-ERR 'no'"));
        let nobody = "HMSG _INBOX.xtask.0 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        assert!(answering(nobody).ask("s", "").unwrap_err().contains("no leader"));
        assert!(answering("MSG _INBOX.xtask.0 1 1\r\n{\r\n").ask("s", "").is_err());
    }
}
