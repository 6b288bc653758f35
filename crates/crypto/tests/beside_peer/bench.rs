//! A folder with files and the peers' programs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crypto::kdf::{Budget, Limits};
use crypto::luks::Opened;
use crypto::luks1::Header;
use crypto::{Key, SectorCipher, SectorLen, Step};

/// Whether a program is here; says so where it is not.
pub fn is_here(program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: {program} is not installed, so there is nothing to compare with");
    }
    here
}

pub fn phrase(text: &str) -> Key {
    Key::new(text.as_bytes().to_vec())
}

pub fn budget() -> Budget<'static> {
    Budget::new(Limits::default(), &|| false)
}

/// Bytes that are no two sectors the same.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1] ^ (at >> 9) as u8)
        .collect()
}

/// A folder of its own, gone when dropped.
pub struct Bench {
    root: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

impl Bench {
    pub fn new(name: &str) -> Bench {
        let root = std::env::temp_dir().join(format!("cairn-crypto-{name}-{}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(&root).unwrap();
        Bench { root }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub fn put(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    pub fn get(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap()
    }

    /// Makes a file of zeroes.
    pub fn zeroes(&self, file: &str, len: u64) {
        fs::File::create(self.path(file)).unwrap().set_len(len).unwrap();
    }

    /// Does what a change says.
    pub fn run(&self, file: &str, steps: &[Step]) {
        let mut bytes = fs::read(self.path(file)).unwrap_or_default();
        for step in steps {
            if let Step::Write { offset, bytes: new } = step {
                let at = *offset as usize;
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[at..at + new.len()].copy_from_slice(new);
            }
        }
        self.put(file, &bytes);
    }

    /// Runs a peer in the folder, with `input` on its standard input.
    pub fn peer(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs qemu-img with a secret `s`.
    pub fn qemu_img(&self, verb: &str, secret: &str, arguments: &[&str]) -> Result<String, String> {
        let object = format!("secret,id=s,{secret}");
        self.peer("qemu-img", &[&[verb, "--object", &object], arguments].concat(), "")
    }

    /// Runs cryptsetup with a passphrase for its question.
    pub fn cryptsetup(&self, arguments: &[&str], passphrase: &str) -> Result<String, String> {
        self.peer("cryptsetup", &[&["-q", "--key-file", "-"], arguments].concat(), passphrase)
    }

    /// Whether cryptsetup opens a volume, and by which slot if one is named.
    pub fn cryptsetup_opens(&self, file: &str, slot: Option<usize>, passphrase: &str) -> bool {
        let slot = slot.map(|slot| vec!["--key-slot".to_string(), slot.to_string()]).unwrap_or_default();
        let slot: Vec<&str> = slot.iter().map(String::as_str).collect();
        let arguments = [&["open", "--test-passphrase"], &slot[..], &[file]].concat();
        self.cryptsetup(&arguments, passphrase).is_ok()
    }

    /// The volume key as cryptsetup tells it.
    pub fn volume_key(&self, file: &str, passphrase: &str) -> Vec<u8> {
        let text = self.cryptsetup(&["luksDump", "--dump-volume-key", file], passphrase).unwrap();
        let digits = text.split_once("MK dump:").unwrap().1;
        let byte = |byte: &str| u8::from_str_radix(byte, 16).unwrap();
        digits.split_whitespace().map(byte).collect()
    }
}

/// Opens a LUKS1 volume.
pub fn open_luks1(bytes: &[u8], passphrase: &str) -> (Header, Option<Opened>) {
    let header = Header::parse(bytes, bytes.len() as u64).unwrap();
    let passphrase = phrase(passphrase);
    let mut unlock = header.unlock(&passphrase, budget());
    while let Some(area) = unlock.next_area() {
        let material = &bytes[area.offset as usize..][..area.len];
        if let Some(opened) = unlock.offer(area, material).unwrap() {
            return (header, Some(opened));
        }
    }
    println!("{}", unlock.failed());
    (header, None)
}

/// The guest's bytes of a LUKS1 volume.
pub fn read_luks1(path: &Path, passphrase: &str) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let (header, opened) = open_luks1(&bytes, passphrase);
    let cipher = SectorCipher::new(*header.spec(), &opened.unwrap().key, SectorLen::B512).unwrap();
    let mut payload = bytes[header.payload_offset() as usize..].to_vec();
    cipher.decrypt(0, &mut payload).unwrap();
    payload
}
