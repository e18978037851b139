//! Looks for every secret of a home in everything that programs print at log level trace.
//!
//! The secrets are read from the home's files, so their names inside the programs do not matter
//! here.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Outcome;
use super::client_processes::{receive, send};
use super::expect::{self, Running};
use crate::driver::{Built, Sandbox};

const PASSWORD: &str = "correct-horse-battery-9871";

/// A text in a message and in its reply.
const BODY: &str = "four-white-swans-on-the-lake";
const REPLY: &str = "and-one-black-one-behind-them";

/// Checks envelope keys, private keys, sessions, and a password given on the command line.
pub(super) fn no_secret_is_logged(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    let logs = logs_at_trace(&sandbox);
    let secrets = secrets(&sandbox.home());
    for expected in ["envelope.keys", "session.key", "web-ipc-ca.key", "localhost.key", "sessions/"]
    {
        assert!(
            secrets.iter().any(|(file, _)| file.starts_with(expected)),
            "no secret was found in {expected}"
        );
    }
    for (file, secret) in &secrets {
        refuse(&logs, secret, file);
    }
    refuse(&logs, PASSWORD, "the command line");
    Outcome::Passed
}

/// Checks the admin's password, which is in `admin.cred`, sealed.
pub(super) fn no_admin_password_is_logged(built: &Built) -> Outcome {
    let openssl =
        Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !openssl.is_ok_and(|status| status.success()) {
        return Outcome::Skipped("there is no openssl command to open admin.cred with".to_owned());
    }
    let sandbox = Sandbox::new(built);
    let logs = logs_at_trace(&sandbox);
    let read = |name| {
        fs::read_to_string(sandbox.home().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let ring = read("envelope.keys");
    let plaintext = open_token(ring.lines().next().unwrap_or_default(), read("admin.cred").trim());
    let credentials: serde_json::Value = serde_json::from_slice(&plaintext)
        .expect("admin.cred holds JSON, sealed with the first envelope key");
    let password = credentials["password"].as_str().expect("admin.cred holds a password");
    assert!(password.len() >= 16, "the admin's password has only {} characters", password.len());
    refuse(&logs, password, "admin.cred");
    Outcome::Passed
}

/// Checks message bodies. They are no secrets of the home, but do not belong into a log either.
pub(super) fn no_message_is_logged(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let logs = pipeline_at_trace(&sandbox, &[]);
    for said in ["/message/submit", "/message/channel", "/message/request"] {
        assert!(logs.contains(said), "the log does not show that {said} was asked for");
    }
    refuse(&logs, BODY, "a message");
    refuse(&logs, REPLY, "a reply");
    Outcome::Passed
}

/// The logs, at trace, of a server that prints messages, of a server that runs a command for each
/// message, and of their clients.
#[track_caller]
fn pipeline_at_trace(sandbox: &Sandbox, credentials: &[&str]) -> String {
    let mut logs = String::new();
    let body = format!(r#"{{"text":"{BODY}"}}"#);
    let at_trace = |arguments: &[&str], stdin: &str| {
        let mut command = sandbox.command(arguments);
        command.env("RUST_LOG", "trace");
        Running::start(command, stdin)
    };
    let command = format!(r#"cat > last; echo '{{"text":"{REPLY}"}}'"#);
    let commands: [&[&str]; 2] = [&["--inbox", "durable"], &["--exec", &command]];
    for (options, has_reply) in commands.into_iter().zip([false, true]) {
        let mut server = at_trace(&[&["--serve", "--port", "0"], options].concat(), "");
        let said = server.wait_for_log("]: Listening on https://127.0.0.1:");
        let port = said.split(' ').next().unwrap_or_default().to_owned();
        let client = |command: &str, object: &[&str], stdin: &str| {
            let arguments = [&[command, "--port", &port], credentials, object].concat();
            at_trace(&arguments, stdin).finish()
        };
        logs += &client("--send", &[&body], "").succeeded().stderr;
        logs += &client("--send", &[], &format!("{body}\n{body}\n")).succeeded().stderr;
        let asked = client("--request", &[&body], "");
        let asked = if has_reply { asked.succeeded().says(REPLY) } else { asked.ended_with(1) };
        logs += &asked.stderr;
        if !has_reply {
            server.wait_for_lines(4);
        }
        server.terminate();
        logs += &server.finish().succeeded().stderr;
    }
    let sent = fs::read_to_string(sandbox.folder().join("last")).expect("a command was run");
    assert!(sent.contains(BODY), "the command was given {sent:?}");
    logs
}

/// Everything that the commands of a home's life print at trace, on both streams.
fn logs_at_trace(sandbox: &Sandbox) -> String {
    let mut logs = String::new();
    for arguments in [
        ["--init", "--run"].as_slice(),
        &["--users", "--add", "--user", "test1", "--password", PASSWORD],
        &["--users", "--test", "--user", "test1", "--password", PASSWORD],
        &["--certs", "--name", "testServer1"],
        &["--test", "--run", "--qty", "3"],
        &["--test", "--run", "--qty", "3", "--name", "testServer1", "--protocol", "http"],
    ] {
        let mut command = sandbox.command(arguments);
        command.env("RUST_LOG", "trace");
        let finished = expect::finish(command).succeeded();
        logs += &finished.stdout;
        logs += &finished.stderr;
    }
    assert!(
        logs.contains("][DEBUG][") || logs.contains("TRACE"),
        "the log does not go below INFO: nothing is shown"
    );
    let (receiver, address) = receive(sandbox, "127.0.0.1:0", "trace");
    let sender = send(sandbox, &address, "client", 3, "trace").finish().succeeded();
    receiver.terminate();
    let received = receiver.finish().succeeded();
    for printed in [sender.stdout, sender.stderr, received.stdout, received.stderr] {
        logs += &printed;
    }
    logs += &pipeline_at_trace(sandbox, &[]);
    logs += &pipeline_at_trace(sandbox, &["--user", "test1", "--password", PASSWORD]);
    logs
}

#[track_caller]
fn refuse(logs: &str, secret: &str, origin: &str) {
    if let Some(line) = logs.lines().find(|line| line.contains(secret)) {
        // Prints the line without the secret, since this message is a log too.
        panic!("a secret of {origin} is printed: {}", line.replace(secret, "<SECRET>"));
    }
}

/// Each secret text of a home, with its file.
fn secrets(home: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["", "sessions/"] {
        for entry in fs::read_dir(home.join(folder)).expect("a directory of the home can be listed")
        {
            let path = entry.expect("an entry can be read").path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let is_secret =
                folder == "sessions/" || name == "envelope.keys" || name.ends_with(".key");
            if path.is_file() && is_secret {
                let text =
                    String::from_utf8_lossy(&fs::read(&path).expect("our own file can be read"))
                        .into_owned();
                found.extend(long_words(&text).map(|word| (format!("{folder}{name}"), word)));
            }
        }
    }
    found
}

/// Runs of at least 24 characters of either base64 alphabet: keys, tokens, and the lines of PEM,
/// but not its header and footer.
fn long_words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines()
        .filter(|line| !line.starts_with("-----"))
        .flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || "+/-_".contains(c))))
        .filter(|word| word.len() >= 24)
        .map(str::to_owned)
}

/// Opens a Fernet token with the `openssl` command. The MAC is not checked: the tests of the
/// envelope do that.
fn open_token(key: &str, token: &str) -> Vec<u8> {
    let (key, token) = (base64url(key), base64url(token));
    assert!(key.len() == 32 && token.len() >= 73, "not a Fernet key and token");
    let (initial, sealed) = (&token[9..25], &token[25..token.len() - 32]);
    let mut child = Command::new("openssl")
        .args(["enc", "-d", "-aes-128-cbc", "-K", &hex(&key[16..]), "-iv", &hex(initial)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl started a moment ago");
    child.stdin.take().expect("stdin is piped").write_all(sealed).expect("openssl reads its input");
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "openssl does not open admin.cred");
    output.stdout
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64url(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for value in text.bytes().filter_map(|byte| ALPHABET.iter().position(|letter| *letter == byte))
    {
        bits = (bits << 6) | u32::try_from(value).unwrap_or_default();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).unwrap_or_default());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_read() {
        assert_eq!(
            base64url("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")[..4],
            [0x73, 0x0f, 0xf4, 0xc7]
        );
        assert_eq!(base64url("aGk="), b"hi");
    }

    #[test]
    fn keys_tokens_and_pem_lines_are_secrets_and_frames_are_not() {
        let key = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4";
        assert_eq!(long_words(&format!("{key}=\n")).collect::<Vec<_>>(), [key]);
        assert_eq!(
            long_words(&format!("{{\"token\":\"{key}\",\"user\":\"x\"}}")).collect::<Vec<_>>(),
            [key]
        );
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
        assert_eq!(long_words(&pem).collect::<Vec<_>>(), [key]);
    }

    #[test]
    #[should_panic(expected = "a secret of session.key is printed: key is <SECRET>.")]
    fn a_printed_secret_is_found_and_not_printed_again() {
        refuse("fine\nkey is abc123.\n", "abc123", "session.key");
    }
}
