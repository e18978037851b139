//! A stream of any length, sealed under a code in chunks: the form of a backup.
//!
//! `sealed_backup` writes one and `restore` reads one. What is inside is not known here. Neither
//! end holds more than a chunk in memory.
//!
//! | bytes | what |
//! |---:|---|
//! | 4 | `WIB1` |
//! | 4, 4, 4 | Argon2id (RFC 9106): memory in KiB, passes, lanes; big-endian |
//! | 16 | salt |
//! | 4, n | the length of the first token, big-endian, and that token: the header |
//! | 8 | the first bytes of SHA-256 of everything before |
//! | 4, n | each further token in the same way: the chunks |
//!
//! A token is a Fernet token under the 32 bytes that Argon2id makes of the code and the salt. Its
//! plaintext is its index, eight bytes, big-endian, counted from 0 for the header; one byte, 1 for
//! the last token of the file and 0 for all others; and the content, at most 1 MiB. So a chunk that
//! is changed, left out, repeated, moved or from another file is refused, and so is a file without
//! its end. The last token is a chunk, also where nothing is in it, and nothing follows it.
//!
//! The eight bytes behind the header tell a damaged file from a wrong code before the costly key is
//! derived. They protect against nobody: the MACs do that.

use std::io::{self, Read, Write};

use ipc_envelope::{HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX, TOKEN_BYTES_MIN};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::SetupError;
use crate::backup_error::BackupFileError;
use crate::code::{COST_BYTES, Code, Cost, SALT_BYTES};
use crate::random::random_bytes;

const MAGIC: &[u8; 4] = b"WIB1";
/// What the magic of every version begins with.
const MAGIC_OF_ALL: &[u8] = b"WIB";
const CHECK_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;
/// Index and mark of the last token, in front of the content.
const PREFIX_BYTES: usize = 9;
/// The most content of a token.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
const TOKEN_BYTES_MAX: usize = PREFIX_BYTES + CHUNK_BYTES + OVERHEAD_BYTES_MAX;

/// Writes a sealed stream. Without [`finish`](Self::finish) the stream has no end, and is refused.
pub(crate) struct SealedWriter<W> {
    out: W,
    ring: KeyRing,
    now_secs: u64,
    index: u64,
    /// Room for the header of a token, the prefix, and the content so far.
    buffer: Zeroizing<Vec<u8>>,
}

impl<W: Write> SealedWriter<W> {
    /// Begins a stream with this header, of [`CHUNK_BYTES`] at most.
    pub(crate) fn begin(
        mut out: W,
        code: &Code,
        header: &[u8],
        now_secs: u64,
    ) -> Result<Self, WriteError> {
        let salt: [u8; SALT_BYTES] = random_bytes().map_err(WriteError::Other)?;
        let cost = Cost::DEFAULT;
        let ring = cost.derive(code, &salt).ok_or(WriteError::Other(SetupError::BackupKey))?;
        let mut head = MAGIC.to_vec();
        head.extend(cost.to_bytes());
        head.extend(salt);
        // The capacity of the longest token: a vector that grows would leave copies behind.
        let buffer = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES_MAX));
        let mut writer = SealedWriter { out: &mut head, ring, now_secs, index: 0, buffer };
        writer.clear();
        writer.buffer.extend_from_slice(header);
        writer.seal(false)?;
        let SealedWriter { ring, index, buffer, .. } = writer;
        let check = Sha256::digest(&head);
        head.extend(&check[..CHECK_BYTES]);
        out.write_all(&head).map_err(WriteError::Io)?;
        let mut writer = SealedWriter { out, ring, now_secs, index, buffer };
        writer.clear();
        Ok(writer)
    }

    /// Adds content.
    pub(crate) fn write(&mut self, mut content: &[u8]) -> Result<(), WriteError> {
        while !content.is_empty() {
            let room = HEADER_BYTES + PREFIX_BYTES + CHUNK_BYTES - self.buffer.len();
            if room == 0 {
                self.seal(false)?;
                self.clear();
                continue;
            }
            let (now, later) = content.split_at(room.min(content.len()));
            self.buffer.extend_from_slice(now);
            content = later;
        }
        Ok(())
    }

    /// Writes the last token, and returns what was written to.
    pub(crate) fn finish(mut self) -> Result<W, WriteError> {
        self.seal(true)?;
        Ok(self.out)
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES + PREFIX_BYTES, 0);
    }

    fn seal(&mut self, is_last: bool) -> Result<(), WriteError> {
        let prefix = &mut self.buffer[HEADER_BYTES..][..PREFIX_BYTES];
        prefix[..8].copy_from_slice(&self.index.to_be_bytes());
        prefix[8] = u8::from(is_last);
        let iv = random_bytes().map_err(WriteError::Other)?;
        self.ring.seal_in_place(&mut self.buffer, self.now_secs, iv);
        let length = u32::try_from(self.buffer.len()).expect("a token is shorter than 2 MiB");
        self.index += 1;
        let written = self.out.write_all(&length.to_be_bytes());
        written.and_then(|()| self.out.write_all(&self.buffer)).map_err(WriteError::Io)
    }
}

/// Why a stream could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The file could not be written.
    Io(io::Error),
    /// There is no key, or no randomness.
    Other(SetupError),
}

/// Why a stream could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file could not be read.
    Io(io::Error),
    /// What is in it is not good.
    Bad(BackupFileError),
}

/// Reads a sealed stream. Everything that it returns was verified.
pub(crate) struct SealedReader<R> {
    input: R,
    ring: KeyRing,
    index: u64,
    is_over: bool,
    /// The token, and the plaintext in its place.
    token: Zeroizing<Vec<u8>>,
    /// What of the content is left to return.
    left: std::ops::Range<usize>,
}

impl<R: Read> SealedReader<R> {
    /// Opens a stream, and returns its header too. No key is derived for a head that is damaged.
    pub(crate) fn open(mut input: R, code: &Code) -> Result<(Self, Vec<u8>), ReadError> {
        let mut magic = [0; MAGIC.len()];
        fill(&mut input, &mut magic).map_err(|error| match error {
            // A shorter file is another one.
            ReadError::Bad(_) => ReadError::Bad(BackupFileError::NotABackup),
            error => error,
        })?;
        if !magic.starts_with(MAGIC_OF_ALL) {
            return Err(ReadError::Bad(BackupFileError::NotABackup));
        }
        if magic != *MAGIC {
            return Err(ReadError::Bad(BackupFileError::Unsupported));
        }
        let mut cost = [0; COST_BYTES];
        fill(&mut input, &mut cost)?;
        let mut salt = [0; SALT_BYTES];
        fill(&mut input, &mut salt)?;
        let mut token = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES_MAX));
        let length = read_token(&mut input, &mut token)?
            .ok_or(ReadError::Bad(BackupFileError::Truncated))?;
        let mut check = [0; CHECK_BYTES];
        fill(&mut input, &mut check)?;
        let mut hash = Sha256::new();
        for part in [&magic[..], &cost, &salt, &length, &token] {
            hash.update(part);
        }
        if !hash.finalize().starts_with(&check) {
            return Err(ReadError::Bad(BackupFileError::Damaged));
        }
        let unsupported = || ReadError::Bad(BackupFileError::Unsupported);
        let cost = Cost::from_bytes(cost).ok_or_else(unsupported)?;
        let ring = cost.derive(code, &salt).ok_or_else(unsupported)?;
        let mut reader = Self { input, ring, index: 0, is_over: false, token, left: 0..0 };
        reader.unseal().map_err(|_| ReadError::Bad(BackupFileError::WrongCode))?;
        if reader.is_over {
            return Err(ReadError::Bad(BackupFileError::Damaged));
        }
        let header = reader.token[std::mem::take(&mut reader.left)].to_vec();
        Ok((reader, header))
    }

    /// Reads the next content into `buffer`, as much as fits. 0 is the verified end of the stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        while self.left.is_empty() {
            if self.is_over {
                return Ok(0);
            }
            read_token(&mut self.input, &mut self.token)?
                .ok_or(ReadError::Bad(BackupFileError::Truncated))?;
            self.unseal().map_err(ReadError::Bad)?;
            if self.is_over && read_some(&mut self.input, &mut [0])? > 0 {
                return Err(ReadError::Bad(BackupFileError::Damaged));
            }
        }
        let bytes = buffer.len().min(self.left.len());
        buffer[..bytes].copy_from_slice(&self.token[self.left.start..][..bytes]);
        self.left.start += bytes;
        Ok(bytes)
    }

    /// Fills `buffer`. A stream that ends before is not what this version writes.
    pub(crate) fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            match self.read(buffer)? {
                0 => return Err(ReadError::Bad(BackupFileError::Unsupported)),
                bytes => buffer = &mut buffer[bytes..],
            }
        }
        Ok(())
    }

    /// Opens the token in the buffer, and checks its place in the file.
    fn unseal(&mut self) -> Result<(), BackupFileError> {
        let opened = self.ring.open_in_place(&mut self.token, None);
        let opened = opened.map_err(|_| BackupFileError::Damaged)?;
        let plaintext = opened.plaintext();
        let damaged = BackupFileError::Damaged;
        let (index, rest) = plaintext.split_first_chunk::<8>().ok_or(damaged.clone())?;
        let (is_last, content) = rest.split_first().ok_or(damaged.clone())?;
        if u64::from_be_bytes(*index) != self.index || *is_last > 1 {
            return Err(damaged);
        }
        self.is_over = *is_last == 1;
        self.index += 1;
        let start = HEADER_BYTES + PREFIX_BYTES;
        self.left = start..start + content.len();
        Ok(())
    }
}

/// Reads a token with its length in front, and returns the bytes of the length. `None` at the end
/// of the file.
fn read_token(
    input: &mut impl Read,
    token: &mut Vec<u8>,
) -> Result<Option<[u8; LENGTH_BYTES]>, ReadError> {
    let mut length = [0; LENGTH_BYTES];
    match read_some(input, &mut length)? {
        0 => return Ok(None),
        bytes => fill(input, &mut length[bytes..])?,
    }
    let bytes = u32::from_be_bytes(length) as usize;
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&bytes) {
        return Err(ReadError::Bad(BackupFileError::Damaged));
    }
    // Within the capacity: it does not move.
    token.resize(bytes, 0);
    fill(input, token)?;
    Ok(Some(length))
}

fn fill(input: &mut impl Read, mut buffer: &mut [u8]) -> Result<(), ReadError> {
    while !buffer.is_empty() {
        match read_some(input, buffer)? {
            0 => return Err(ReadError::Bad(BackupFileError::Truncated)),
            bytes => buffer = &mut buffer[bytes..],
        }
    }
    Ok(())
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReadError> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(ReadError::Io),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_SECS: u64 = 1_750_000_000;

    fn sealed(content: &[u8], code: &Code) -> Vec<u8> {
        let mut writer = SealedWriter::begin(Vec::new(), code, b"head", NOW_SECS).unwrap();
        // In pieces of an odd size, as a file is read.
        content.chunks(70_001).for_each(|piece| writer.write(piece).unwrap());
        writer.finish().unwrap()
    }

    fn opened(file: &[u8], code: &Code) -> Result<Vec<u8>, BackupFileError> {
        let bad = |error| match error {
            ReadError::Bad(error) => error,
            ReadError::Io(error) => panic!("{error}"),
        };
        let (mut reader, header) = SealedReader::open(file, code).map_err(bad)?;
        assert_eq!(header, b"head");
        let mut content = Vec::new();
        let mut buffer = [0; 50_000];
        loop {
            match reader.read(&mut buffer).map_err(bad)? {
                0 => return Ok(content),
                bytes => content.extend_from_slice(&buffer[..bytes]),
            }
        }
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    /// Where the tokens of a file begin, their lengths included, and where the file ends.
    fn tokens(file: &[u8]) -> Vec<usize> {
        let after = |at: usize| {
            let length: [u8; 4] = file[at..at + 4].try_into().unwrap();
            at + 4 + u32::from_be_bytes(length) as usize
        };
        let mut places = vec![MAGIC.len() + COST_BYTES + SALT_BYTES];
        places.push(after(places[0]) + CHECK_BYTES);
        while *places.last().unwrap() < file.len() {
            places.push(after(*places.last().unwrap()));
        }
        places
    }

    #[test]
    fn content_of_every_length_comes_back() {
        let code = Code::generate().unwrap();
        let around = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES];
        for bytes in around {
            let content = content(bytes);
            let file = sealed(&content, &code);
            assert_eq!(opened(&file, &code).unwrap(), content, "{bytes}");
            let chunks = bytes.div_ceil(CHUNK_BYTES).max(1);
            assert_eq!(tokens(&file).len(), 1 + chunks + 1, "{bytes}");
        }
    }

    #[test]
    fn a_writer_and_a_reader_hold_no_more_than_a_chunk() {
        let code = Code::generate().unwrap();
        let mut writer = SealedWriter::begin(io::sink(), &code, b"head", NOW_SECS).unwrap();
        let before = (writer.buffer.as_ptr(), writer.buffer.capacity());
        for _ in 0..5 {
            writer.write(&content(CHUNK_BYTES - 7)).unwrap();
            assert_eq!((writer.buffer.as_ptr(), writer.buffer.capacity()), before);
        }
        assert!(before.1 < CHUNK_BYTES + 200, "{}", before.1);
        let file = sealed(&content(3 * CHUNK_BYTES), &code);
        let (mut reader, _) = SealedReader::open(&file[..], &code).unwrap();
        let before = (reader.token.as_ptr(), reader.token.capacity());
        while reader.read(&mut [0; 9999]).unwrap() > 0 {
            assert_eq!((reader.token.as_ptr(), reader.token.capacity()), before);
        }
    }

    #[test]
    fn another_code_is_refused_as_such() {
        let (code, other) = (Code::generate().unwrap(), Code::generate().unwrap());
        assert_eq!(opened(&sealed(b"x", &code), &other), Err(BackupFileError::WrongCode));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let code = Code::generate().unwrap();
        let file = sealed(&content(100), &code);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let error = opened(&changed, &code).unwrap_err();
            let expected = match at {
                0..3 => &[BackupFileError::NotABackup][..],
                3 => &[BackupFileError::Unsupported],
                // A length decides where the file ends.
                _ => &[BackupFileError::Damaged, BackupFileError::Truncated],
            };
            assert!(expected.contains(&error), "byte {at}: {error:?}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_anywhere_is_refused() {
        let code = Code::generate().unwrap();
        let file = sealed(&content(2 * CHUNK_BYTES + 100), &code);
        let places = tokens(&file);
        for at in 0..4 {
            assert_eq!(opened(&file[..at], &code), Err(BackupFileError::NotABackup), "{at}");
        }
        // Between two tokens too: only the last one is the end.
        let between = places[1..places.len() - 1].iter().copied();
        for at in
            [4, 5, 40, places[1] - 1, places[2] + 1, file.len() - 1].into_iter().chain(between)
        {
            assert_eq!(opened(&file[..at], &code), Err(BackupFileError::Truncated), "{at}");
        }
        let longer = [&file[..], b"x"].concat();
        assert_eq!(opened(&longer, &code), Err(BackupFileError::Damaged));
    }

    #[test]
    fn chunks_that_are_moved_left_out_repeated_or_from_another_file_are_refused() {
        let code = Code::generate().unwrap();
        let file = sealed(&content(2 * CHUNK_BYTES + 100), &code);
        let other = sealed(&content(2 * CHUNK_BYTES + 100), &code);
        let places = tokens(&file);
        let part = |index: usize| &file[places[index]..places[index + 1]];
        let head = &file[..places[1]];
        let others = &other[places[2]..places[3]];
        assert!(opened(&[head, part(1), part(2), part(3)].concat(), &code).is_ok());
        for parts in [
            vec![head, part(2), part(1), part(3)],
            vec![head, part(1), part(3)],
            vec![head, part(3)],
            vec![head, part(1), part(2), part(2), part(3)],
            vec![head, part(1), others, part(3)],
            vec![head, part(1), part(2), part(3), part(3)],
            // The header where a chunk should be.
            vec![head, &head[places[0]..head.len() - CHECK_BYTES], part(3)],
        ] {
            assert_eq!(opened(&parts.concat(), &code), Err(BackupFileError::Damaged));
        }
    }

    #[test]
    fn a_head_that_costs_too_much_or_is_of_another_version_is_refused_without_a_key() {
        let code = Code::generate().unwrap();
        let file = sealed(b"x", &code);
        let end = tokens(&file)[1];
        let with_new_check = |mut file: Vec<u8>| {
            let check = Sha256::digest(&file[..end - CHECK_BYTES]);
            file[end - CHECK_BYTES..end].copy_from_slice(&check[..CHECK_BYTES]);
            file
        };
        // Version, memory, passes, lanes; and no memory at all.
        for (at, value) in [(3, b'2'), (4, 1), (8, 1), (12, 1)] {
            let mut changed = file.clone();
            changed[at] = value;
            let error = opened(&with_new_check(changed), &code);
            assert_eq!(error, Err(BackupFileError::Unsupported), "{at}");
        }
        let mut changed = file.clone();
        changed[4..8].fill(0);
        assert_eq!(opened(&with_new_check(changed), &code), Err(BackupFileError::Unsupported));
        for text in [&b""[..], b"WI", b"-----BEGIN WEB-IPC ENROLMENT-----", b"SQLite format 3\0"] {
            assert_eq!(opened(text, &code), Err(BackupFileError::NotABackup));
        }
    }
}
