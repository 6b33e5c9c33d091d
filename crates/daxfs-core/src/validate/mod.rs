// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole-image proof: one bounded pass over everything that an image says.
//!
//! Every byte is copied out once and judged from the copy. Work and memory grow with the bytes
//! that are really there, never with a number that the image merely claims.

mod base;
mod delta;
mod directory;
mod xattr;

use std::sync::Arc;
use std::time::Duration;

use crate::base::Base;
use crate::error::{Error, Result, show_path};
use crate::finding::Findings;
use crate::format::Superblock;
use crate::progress::Progress;
use crate::region::Region;

/// How often branches are looked at again that change all the time, and after what pause.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// How much is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Everything but the contents of regular files.
    Metadata,
    /// The contents too, where they have checksums.
    Data,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Base inodes.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Regular files among them.
    pub files: u64,
    /// Symbolic links among them.
    pub symlinks: u64,
    /// Names.
    pub dirents: u64,
    /// Bytes of regular files.
    pub data_bytes: u64,
}

/// What a proof found.
#[derive(Debug, Default)]
pub struct Report {
    /// Contradictions between the image and the format.
    pub findings: Findings,
    /// What was looked at.
    pub counts: Counts,
}

/// Proves everything that the format demands of an image.
///
/// Fails only when the region does not hold an image that this version knows, or when its branches
/// change so fast that nothing can be told of them; whatever is wrong inside is in the report.
pub fn validate(region: &Arc<Region>, depth: Depth) -> Result<Report> {
    validate_watched(region, depth, &Progress::default())
}

/// As [`validate`], while somebody watches how far it has come and may stop it.
pub fn validate_watched(region: &Arc<Region>, depth: Depth, progress: &Progress) -> Result<Report> {
    let superblock = Superblock::read(region)?;
    let mut report = Report::default();
    superblock.check(region.len(), &mut report.findings);
    // Without sound bounds there is nothing to stand on.
    if report.findings.errors() == 0 {
        match Base::open(Arc::clone(region), &superblock) {
            Ok(base) => check_opened(&superblock, &base, depth, progress, &mut report)?,
            Err(error) => report.findings.absorb(error),
        }
    }
    // What was stopped has not looked at everything.
    progress.check()?;
    Ok(report)
}

/// Proves an image from the superblocks that were read when it was opened.
pub(crate) fn validate_opened(
    superblock: &Superblock,
    base: &Base,
    depth: Depth,
    progress: &Progress,
) -> Result<Report> {
    let mut report = Report::default();
    superblock.check(base.region().len(), &mut report.findings);
    if report.findings.errors() == 0 {
        check_opened(superblock, base, depth, progress, &mut report)?;
    }
    progress.check()?;
    Ok(report)
}

fn check_opened(
    superblock: &Superblock,
    base: &Base,
    depth: Depth,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    self::base::check(superblock, base, depth, progress, report);
    if progress.is_cancelled() {
        return Ok(());
    }
    match check_branches(superblock, base) {
        Ok(findings) => report.findings.merge(findings),
        // What is wrong with the base says enough.
        Err(_) if report.findings.errors() > 0 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The superblock as it is now, if it is still sound.
fn reread(region: &Region) -> Option<Box<Superblock>> {
    let superblock = Superblock::read(region).ok()?;
    let mut findings = Findings::default();
    superblock.check(region.len(), &mut findings);
    (findings.errors() == 0).then_some(superblock)
}

/// Branches may be written to meanwhile, and what others have done by half is no error: what is
/// wrong with an image is found again. Where each look finds something else, nothing is told.
fn check_branches(superblock: &Superblock, base: &Base) -> Result<Findings> {
    let look = |superblock: &Superblock| {
        let mut findings = Findings::default();
        delta::check_branches(base.region(), superblock, base, &mut findings);
        findings
    };
    let mut last = look(superblock);
    let mut findings = last.clone();
    for _ in 0..LOOKS {
        if last.errors() == 0 {
            // Only such a look goes as far as to the replay.
            return Ok(last);
        }
        // Its counters change; whoever changes the rest of it has to stand for the last look.
        let Some(superblock) = reread(base.region()) else { return Ok(last) };
        let again = look(&superblock);
        let found = findings.errors();
        findings.retain_also_in(&again);
        if findings.errors() > 0 && findings.errors() == found {
            return Ok(findings);
        }
        if findings.errors() == 0 {
            findings = again.clone();
        }
        last = again;
        std::thread::sleep(PAUSE);
    }
    Err(Error::ImageBusy {
        name: show_path(base.region().name()),
        why: "others change it all the time, faster than it can be looked at; try again".into(),
    })
}
