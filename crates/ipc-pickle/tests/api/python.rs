//! Both directions against the Python that is installed: it reads what is written here, and what
//! it writes at random is read here. Without `python3` the test says that it was skipped.

use std::io::Write;
use std::process::{Command, Stdio};

use ipc_pickle::{DecodeError, Limits, from_json, to_json};

/// Writes objects at random and prints a line `PICKLE JSON` for each, pickle in hexadecimal, at
/// each protocol.
const WRITES: &str = r#"
import json, pickle, random, struct
random.seed(1)
def text():
    ranges = [(32, 126), (0, 31), (127, 0xd7ff), (0xe000, 0x10ffff)]
    return "".join(chr(random.randint(*random.choice(ranges))) for _ in range(random.randint(0, 9)))
def number():
    while True:
        f = struct.unpack(">d", random.randbytes(8))[0]
        if f == f and abs(f) != float("inf"):
            return f
def value(depth):
    kind = random.randint(0, 9 if depth else 6)
    if kind == 0: return random.choice([None, True, False])
    if kind == 1: return random.randint(-300, 70000)
    if kind == 2: return random.randint(-2**63, 2**64 - 1)
    if kind == 3: return number()
    if kind == 4: return random.randint(-100, 100) / 4
    if kind in (5, 6): return text()
    if kind == 7: return [value(depth - 1) for _ in range(random.randint(0, 5))]
    if kind == 8: return tuple(value(depth - 1) for _ in range(random.randint(0, 5)))
    return {text(): value(depth - 1) for _ in range(random.randint(0, 5))}
objects = [{text(): value(4) for _ in range(5)} for _ in range(300)]
# What is long lies outside of the frames.
objects.append({"long": "x" * 70_000, "again": ["ü" * 70_000, "x" * 70_000]})
for o in objects:
    for p in range(6):
        print(pickle.dumps(o, p).hex(), json.dumps(o))
"#;

/// Reads lines `PICKLE JSON` and compares both, types and signs included. Prints how many.
const READS: &str = r#"
import json, math, pickle, sys
def same(a, b):
    if type(a) is not type(b): return False
    if type(a) is dict: return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if type(a) is list: return len(a) == len(b) and all(map(same, a, b))
    if type(a) is float: return a == b and math.copysign(1, a) == math.copysign(1, b)
    return a == b
count = 0
for line in sys.stdin:
    made, text = line.split(" ", 1)
    a, b = pickle.loads(bytes.fromhex(made)), json.loads(text)
    assert same(a, b), (a, b)
    count += 1
print(count)
"#;

/// Runs a program with `input`, and returns what it prints. `None` without `python3`.
fn python(program: &str, input: &str) -> Option<String> {
    let mut command = Command::new("python3");
    command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.env("PYTHONIOENCODING", "utf-8").spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: python3: {error}");
            return None;
        }
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "python3: {}", output.status);
    writer.join().unwrap().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn python_reads_what_is_written_here_and_the_other_way_round() {
    let Some(written) = python(WRITES, "") else { return };
    let mut lines = String::new();
    for line in written.lines() {
        let (pickle, json) = line.split_once(' ').unwrap();
        let text = to_json(&unhex(pickle), &Limits::default()).unwrap();
        // Python finds both of them to be the same as its own JSON.
        lines.push_str(&format!("{} {json}\n", hex(&from_json(&text).unwrap())));
        lines.push_str(&format!("{} {text}\n", hex(&from_json(json).unwrap())));
    }
    let count = lines.lines().count().to_string();
    assert_eq!(python(READS, &lines).unwrap().trim(), count);
}

#[test]
fn each_instruction_that_python_has_is_known_here() {
    let program = "import pickletools\nfor o in pickletools.opcodes: print(ord(o.code), o.name)";
    let Some(opcodes) = python(program, "") else { return };
    let mut executing = 0;
    for line in opcodes.lines() {
        let (code, name) = line.split_once(' ').unwrap();
        let code: u8 = code.parse().unwrap();
        match to_json(&[code, b'.'], &Limits::default()) {
            Err(DecodeError::Executes { opcode, offset: 0 }) => {
                assert_eq!(opcode, name);
                executing += 1;
            }
            Err(DecodeError::Malformed { .. }) => {
                // It needs an argument or a value. No byte that is no instruction has one.
                let data = "PROTO FRAME MARK POP POP_MARK DUP STOP GET BINGET LONG_BINGET PUT \
                    BINPUT LONG_BINPUT MEMOIZE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT \
                    BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 TUPLE TUPLE1 TUPLE2 \
                    TUPLE3 LIST APPEND APPENDS DICT SETITEM SETITEMS";
                assert!(data.split_whitespace().any(|known| known == name), "{name}");
            }
            Err(DecodeError::Unrepresentable(_)) => {
                assert!(
                    ["STRING", "BYTE", "SET", "ADDITEMS"].iter().any(|kind| name.contains(kind)),
                    "{name}"
                );
            }
            Err(DecodeError::NotADict) => {
                assert!(
                    ["NONE", "NEWTRUE", "NEWFALSE", "EMPTY_LIST", "EMPTY_TUPLE"].contains(&name)
                );
            }
            Ok(text) => assert_eq!((name, &*text), ("EMPTY_DICT", "{}")),
            Err(other) => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(executing, 15);
}
