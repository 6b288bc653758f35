//! Faces run by tests: in a folder of its own, with what they say kept, and with the flags that were given counted.
//!
//! In a line of words `@` stands for the folder, and a part between single quotes is one word. In what is said, the
//! folder is an `@` again.

use crate::console::Console;
use crate::getopt::{self, Operands, Table};
use crate::{img, io, nbd};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a face said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// A folder in which faces run.
pub struct Faces {
    folder: PathBuf,
    lines: RefCell<Vec<Vec<String>>>,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Drop for Faces {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Faces {
    /// An empty folder.
    pub fn new() -> Faces {
        let folder = std::env::temp_dir().join(format!("cairn-{:016x}", rt::random_u64()));
        std::fs::create_dir(&folder).unwrap();
        Faces { folder, lines: RefCell::default() }
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Bytes of a file in the folder.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn words(&self, line: &str) -> Vec<String> {
        let folder = format!("{}/", self.folder.display());
        let mut words = Vec::new();
        for (index, part) in line.split('\'').enumerate() {
            match index % 2 {
                0 => words.extend(part.split(' ').filter(|word| !word.is_empty()).map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words.into_iter().map(|word| word.replace('@', &folder)).collect()
    }

    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.display()), "@")
    }

    /// Runs a line such as `img info @a.qcow2`.
    pub fn run(&self, line: &str) -> Said {
        let words = self.words(line);
        self.lines.borrow_mut().push(words.clone());
        let (out, err) = (Kept::default(), Kept::default());
        let errors = err.clone();
        let keep = move |text: &str| writeln!(errors.clone(), "{text}").unwrap();
        let mut console = Console::on(&words[0], Box::new(out.clone()), Arc::new(keep));
        let code = run_face(&mut console, &words);
        let code = console.finish(code);
        Said { code, out: self.shown(&out.text()), err: self.shown(&err.text()) }
    }

    /// Counts a line that another test of this crate runs, in this file.
    pub fn ran_in(&self, file: &str, line: &str) {
        let source = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(source.contains(line), "{file} has no line with {line}");
        self.lines.borrow_mut().push(self.words(line));
    }

    /// Runs a line that must succeed; gives what it printed.
    pub fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.out
    }

    /// Runs a line that must end with this exit code; gives what it said on both streams.
    pub fn fails(&self, code: u8, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, code, "{line}: {said:?}");
        format!("{}{}", said.out, said.err)
    }

    /// Starts a face in a process of its own, which is ended with what this returns.
    pub fn start(&self, line: &str) -> Process {
        let words = self.words(line);
        self.lines.borrow_mut().push(words.clone());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["testing::face_in_a_process_of_its_own", "--exact", "--nocapture"]);
        command.env(WORDS, words.join("\x1f")).stdin(Stdio::null()).stdout(Stdio::null());
        Process(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until a process has made a file.
    pub fn wait_for(&self, process: &mut Process, name: &str) {
        self.wait(|| {
            if let Some(status) = process.0.try_wait().unwrap() {
                panic!("{name} is not there, and its process has ended with {status}: {}", process.said());
            }
            self.path(name).exists()
        });
    }

    fn wait(&self, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails where a flag of the table stands in none of the lines that ran so far. `of` picks a command's own
    /// arguments out of a line's words, if the line is one of that command.
    pub fn gave_every_flag<S>(&self, table: Table<S>, of: impl Fn(&[String]) -> Option<Vec<String>>) {
        let mut given = BTreeSet::new();
        for line in self.lines.borrow().iter() {
            let parsed = of(line).and_then(|args| getopt::parse(table, &args, Operands::Anywhere).ok());
            given.extend(parsed.iter().flat_map(|parsed| parsed.flags.iter().map(|(flag, _)| flag.names)));
        }
        let missing: Vec<_> =
            getopt::rows(table).map(|flag| flag.names).filter(|n| !given.contains(n)).collect();
        assert!(missing.is_empty(), "flags that no test gives: {missing:?}");
    }
}

/// A face in a process of its own.
pub struct Process(Child);

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        Command::new("sh").args(["-c", &format!("kill -TERM {}", self.0.id())]).status().unwrap();
    }

    /// Waits for its end: whether it succeeded, and what it said on standard error.
    pub fn ended(mut self) -> (bool, String) {
        let text = self.said();
        (self.0.wait().unwrap().success(), text)
    }

    /// All that it says on standard error until its end.
    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut err) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut err, &mut text).unwrap();
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The words of the face that a process is to be.
const WORDS: &str = "CAIRN_TEST_FACE";

/// No test: the body of [`Faces::start`].
#[test]
fn face_in_a_process_of_its_own() {
    let Ok(words) = std::env::var(WORDS) else { return };
    let words: Vec<_> = words.split('\x1f').map(str::to_owned).collect();
    let mut console = Console::new(&words[0]);
    let code = run_face(&mut console, &words);
    std::process::exit(console.finish(code).into());
}

fn run_face(console: &mut Console, words: &[String]) -> u8 {
    let args = &words[1..];
    match &*words[0] {
        "img" => img::run(console, args),
        "io" => io::run(console, args),
        "nbd" => nbd::run(console, args),
        other => panic!("no face: {other}"),
    }
}
