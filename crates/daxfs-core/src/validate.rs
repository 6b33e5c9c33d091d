// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole-image proof.
mod delta;

use std::sync::Arc;

use crate::base::Base;
use crate::finding::Findings;
use crate::format::Superblock;
use crate::region::Region;

/// How much is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Everything but the contents of regular files.
    Metadata,
    /// The contents too, where they have checksums.
    Data,
}

/// What a proof found.
#[derive(Debug, Default)]
pub struct Report {
    /// Contradictions.
    pub findings: Findings,
}

/// Proves everything that the format demands of an image.
pub fn validate(region: &Arc<Region>, _depth: Depth) -> crate::error::Result<Report> {
    let superblock = Superblock::read(region)?;
    let mut report = Report::default();
    superblock.check(region.len(), &mut report.findings);
    if report.findings.errors() == 0 {
        match Base::open(Arc::clone(region), &superblock) {
            Ok(base) => {
                delta::check_branches(region, &superblock, &base, &mut report.findings);
            }
            Err(error) => report.findings.absorb(error),
        }
    }
    Ok(report)
}
