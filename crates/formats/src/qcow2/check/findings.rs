//! What a check finds: numbers, words, and what is to be done about it.
//!
//! Each finding is a line as scripts know it: `ERROR …` (data may be lost), `Leaked …`, `Repairing …`.
use block::{CheckReport, Repair};

/// Most lines that are kept; the numbers count all.
const MAX_LINES: usize = 65_536;

/// Most entries that a repair clears.
const MAX_MENDS: usize = 1 << 20;

/// A table entry to be replaced.
pub(super) struct Mend {
    /// File offset of the entry.
    pub at: u64,
    /// What it becomes.
    pub value: u64,
    /// References to its table: if the cluster has more, it is something else too. Each is counted as a corruption.
    pub refs: u32,
    /// A cluster that it leads to from now on: nothing but these `refs` may, and it must be counted.
    pub target: Option<u64>,
}

/// References to a region that reaches behind the end of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dangling {
    /// Where the region begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// How many references there are.
    pub times: u32,
}

/// What was found so far.
pub(super) struct Findings {
    report: CheckReport,
    repair: Repair,
    lines: Vec<String>,
    /// Lines about flags, which come last.
    flag_lines: Vec<String>,
    left_out: u64,
    /// Refcounts can't be mended in place.
    pub rebuild: bool,
    /// Nor can leaks: what is counted too low may be what is called leaked.
    pub beyond_leaks: bool,
    /// Every reference could be followed, so that a cluster without one is free beyond doubt.
    pub complete: bool,
    /// Table entries to be replaced.
    pub mends: Vec<Mend>,
    /// References that reach behind the end of the file.
    pub dangling: Vec<Dangling>,
    /// `dangling` has all of them.
    pub all_dangling_known: bool,
    /// Corruptions that are differences between counts.
    count_corruptions: u64,
    /// Corruptions of the refcount structures themselves.
    structure_corruptions: u64,
    /// References that counts can't hold.
    overflows: u64,
}

impl Findings {
    pub(super) fn new(repair: Repair) -> Self {
        Self {
            report: CheckReport::default(),
            repair,
            lines: Vec::new(),
            flag_lines: Vec::new(),
            left_out: 0,
            rebuild: false,
            beyond_leaks: false,
            complete: true,
            mends: Vec::new(),
            dangling: Vec::new(),
            all_dangling_known: true,
            count_corruptions: 0,
            structure_corruptions: 0,
            overflows: 0,
        }
    }

    pub(super) fn repair(&self) -> Repair {
        self.repair
    }

    /// The numbers, to add to.
    pub(super) fn report(&mut self) -> &mut CheckReport {
        &mut self.report
    }

    fn line(&mut self, words: impl FnOnce() -> String) {
        if self.lines.len() + self.flag_lines.len() < MAX_LINES {
            self.lines.push(words());
        } else {
            self.left_out += 1;
        }
    }

    /// Something that contradicts the format, `times` times.
    pub(super) fn corruption(&mut self, times: u32, words: impl FnOnce() -> String) {
        self.report.corruptions += u64::from(times);
        self.line(|| format!("ERROR {}", words()));
    }

    /// The same, and what it refers to can't be followed.
    pub(super) fn blind_corruption(&mut self, words: impl FnOnce() -> String) {
        self.complete = false;
        self.corruption(1, words);
    }

    /// A reference that reaches behind the end of the file.
    pub(super) fn beyond_end(&mut self, times: u32, offset: u64, size: u64) {
        if self.dangling.len() < MAX_MENDS {
            self.dangling.push(Dangling { offset, size, times });
        } else {
            self.all_dangling_known = false;
        }
        self.report.corruptions += u64::from(times);
        self.line(|| {
            format!(
                "ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset \
                 {offset:#x} size {size:#x}"
            )
        });
    }

    /// A compressed cluster that is marked as the image's own.
    pub(super) fn owned_compressed(&mut self, times: u32, offset: u64) {
        self.report.corruptions += u64::from(times);
        self.line(|| {
            format!("ERROR: coffset={offset:#x}: copied flag must never be set for compressed clusters")
        });
    }

    /// More references than a refcount can hold.
    pub(super) fn overflow(&mut self, offset: u64, excess: u64) {
        self.report.corruptions += excess;
        self.overflows += excess;
        self.line(|| {
            format!(
                "ERROR: overflow cluster offset={offset:#x}: refcounts are too narrow for {excess} more references; \
                 'convert' makes a clean copy"
            )
        });
    }

    /// A fault of the refcount table or a block, which only a rebuild mends.
    pub(super) fn structure_corruption(&mut self, words: impl FnOnce() -> String) {
        self.rebuild = true;
        self.structure_corruptions += 1;
        self.corruption(1, words);
    }

    /// A table entry that can simply be replaced.
    pub(super) fn mendable_entry(&mut self, mend: Mend, words: impl FnOnce() -> String) {
        if self.repair != Repair::All || self.mends.len() >= MAX_MENDS {
            return self.corruption(mend.refs, words);
        }
        self.report.corruptions_fixed += u64::from(mend.refs);
        self.mends.push(mend);
        self.line(|| format!("Repairing {}", words()));
    }

    /// A fault that was mended at once.
    pub(super) fn mended(&mut self, words: impl FnOnce() -> String) {
        self.report.corruptions_fixed += 1;
        self.line(|| format!("Repairing {}", words()));
    }

    /// The entry is left as it is: its table is something else too.
    pub(super) fn left_alone(&mut self, mend: &Mend) {
        self.complete &= mend.target.is_some();
        self.report.corruptions_fixed -= u64::from(mend.refs);
        self.corruption(mend.refs, || {
            format!("the entry at {:#x} is not changed: its table overlaps other metadata or data", mend.at)
        });
    }

    /// The entry is left as it is: what it would lead to is somebody else's, or nobody's.
    pub(super) fn left_in_doubt(&mut self, mend: &Mend) {
        self.report.corruptions_fixed -= u64::from(mend.refs);
        self.corruption(mend.refs, || {
            format!("the entry at {:#x} is not changed: it may be its offset that is wrong", mend.at)
        });
    }

    /// Something that kept the check from looking at all.
    pub(super) fn check_error(&mut self, words: String) {
        self.complete = false;
        self.report.check_errors += 1;
        self.line(|| format!("ERROR: {words}"));
    }

    /// A stored count that is not the number of references.
    pub(super) fn count_differs(&mut self, cluster: u64, stored: u64, refs: u64) {
        if stored == 0 {
            // Perhaps there is no block to hold the count.
            self.rebuild = true;
            self.beyond_leaks = true;
        }
        if stored < refs {
            self.report.corruptions += 1;
            self.count_corruptions += 1;
        } else {
            self.report.leaks += 1;
        }
        let word = if stored < refs { "ERROR" } else { "Leaked" };
        self.line(|| format!("{word} cluster {cluster} refcount={stored} reference={refs}"));
    }

    /// Whether a wrong count is to be mended.
    pub(super) fn fixes(&self, too_low: bool) -> bool {
        match self.repair {
            Repair::No => false,
            Repair::Leaks => !too_low && self.complete,
            Repair::All => too_low || self.complete,
        }
    }

    /// Whether clusters are about to be given up.
    pub(super) fn fixable_leaks(&self) -> bool {
        self.report.leaks > 0 && self.fixes(false)
    }

    /// A wrong count was mended.
    pub(super) fn count_fixed(&mut self, cluster: u64, stored: u64, refs: u64) {
        self.line(|| format!("Repairing cluster {cluster} refcount={stored} reference={refs}"));
        if stored < refs {
            self.report.corruptions -= 1;
            self.count_corruptions -= 1;
            self.report.corruptions_fixed += 1;
        } else {
            self.report.leaks -= 1;
            self.report.leaks_fixed += 1;
        }
    }

    /// The refcount table or a block is wrong, so that no count can be mended in place.
    pub(super) fn structure_is_corrupt(&self) -> bool {
        self.structure_corruptions > 0
    }

    /// The refcount structures are new, and no count is too low any more. `given_up`: clusters of the old ones;
    /// `overflows`: references that counts still can't hold; `kept`: clusters that are counted though nothing is known to
    /// lead to them.
    pub(super) fn rebuilt(&mut self, given_up: &[u64], overflows: u64, kept: u64) {
        self.rebuild = false;
        self.line(|| "Rebuilding refcount structure".to_owned());
        given_up.iter().for_each(|cluster| {
            self.line(|| format!("Repairing cluster {cluster} refcount=1 reference=0"));
        });
        let held = self.overflows.saturating_sub(overflows);
        self.overflows -= held;
        let fixed = self.count_corruptions + self.structure_corruptions + held;
        (self.count_corruptions, self.structure_corruptions) = (0, 0);
        self.report.corruptions -= fixed;
        self.report.corruptions_fixed += fixed;
        self.report.leaks_fixed += self.report.leaks.saturating_sub(kept);
        self.report.leaks = kept;
    }

    /// References behind the end of the file are counted now, because the file has become longer: their clusters read
    /// as zeroes, and nothing else is ever put there.
    pub(super) fn dangling_counted(&mut self, dangling: Dangling) {
        let times = u64::from(dangling.times);
        self.report.corruptions -= times;
        self.report.corruptions_fixed += times;
        self.line(|| {
            let Dangling { offset, size, .. } = dangling;
            format!("Repairing reference beyond the end of the file: offset {offset:#x} size {size:#x}")
        });
    }

    /// A flag that contradicts a count.
    pub(super) fn flag_differs(&mut self, times: u32, repaired: bool, words: impl FnOnce() -> String) {
        let times = u64::from(times);
        *(if repaired { &mut self.report.corruptions_fixed } else { &mut self.report.corruptions }) += times;
        if self.lines.len() + self.flag_lines.len() < MAX_LINES {
            let word = if repaired { "Repairing" } else { "ERROR" };
            self.flag_lines.push(format!("{word} OFLAG_COPIED {}", words()));
        } else {
            self.left_out += 1;
        }
    }

    /// Where the last cluster in use ends.
    pub(super) fn image_end(&mut self, end: u64) {
        let known = self.report.image_end_offset.unwrap_or(0);
        self.report.image_end_offset = Some(known.max(end));
    }

    /// Everything could be read.
    pub(super) fn all_read(&self) -> bool {
        self.report.check_errors == 0
    }

    /// Nothing is wrong any more, leaks aside.
    pub(super) fn consistent(&self) -> bool {
        self.report.corruptions == 0 && self.report.check_errors == 0
    }

    /// Nothing at all is wrong any more.
    pub(super) fn clean(&self) -> bool {
        self.consistent() && self.report.leaks == 0
    }

    pub(super) fn into_report(mut self) -> CheckReport {
        self.lines.append(&mut self.flag_lines);
        if self.left_out > 0 {
            self.lines.push(format!("… and {} more findings", self.left_out));
        }
        CheckReport { messages: self.lines, ..self.report }
    }
}
