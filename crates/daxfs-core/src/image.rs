// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a region to an image: validation as a type, with no way round it.

use std::sync::Arc;

use crate::base::Base;
use crate::branch::BranchInfo;
use crate::branch::look::look;
use crate::error::{Error, Result};
use crate::finding::Findings;
use crate::format::{RENEWAL_NAME, Superblock};
use crate::progress::Progress;
use crate::region::Region;
use crate::validate;

/// An image whose superblock has been checked, and nothing else yet.
#[derive(Debug)]
pub struct Unvalidated {
    region: Arc<Region>,
    superblock: Box<Superblock>,
    base: Base,
}

/// An image that has been proved, or that the caller trusts.
///
/// Either way every access is bounds-checked and every field checked when it is used: others may
/// store to the memory at any time.
#[derive(Debug)]
pub struct Image {
    region: Arc<Region>,
    superblock: Box<Superblock>,
    base: Arc<Base>,
}

impl Unvalidated {
    /// Reads and checks the superblock and the base superblock.
    pub fn open(region: Arc<Region>) -> Result<Self> {
        let superblock = Superblock::read(&region)?;
        let mut findings = Findings::default();
        superblock.check(region.len(), &mut findings);
        findings.into_result()?;
        let base = Base::open(Arc::clone(&region), &superblock)?;
        Ok(Self { region, superblock, base })
    }

    /// Proves the whole image.
    pub fn validate(self) -> Result<Image> {
        self.validate_watched(&Progress::default())
    }

    /// As [`Unvalidated::validate`], while somebody watches how far it has come and may stop it.
    pub fn validate_watched(self, progress: &Progress) -> Result<Image> {
        // The superblocks that were read are those that are judged and used: never read twice.
        let (superblock, depth) = (&self.superblock, validate::Depth::Metadata);
        let report = validate::validate_opened(superblock, &self.base, depth, progress)?;
        let findings = report.findings;
        match findings.first_error() {
            None => Ok(self.trust()),
            Some(first) => {
                Err(Error::Unsound { count: findings.errors(), first: first.to_string() })
            }
        }
    }

    /// Takes the caller's word that the image is sound.
    pub fn trust(self) -> Image {
        let Self { region, superblock, base } = self;
        Image { region, superblock, base: Arc::new(base) }
    }
}

impl Image {
    /// The region that the image lies in.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The superblock as it was when the image was opened.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The read-only tree.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// The branches there are now, main among them if it has a record.
    pub fn branches(&self) -> Result<Vec<BranchInfo>> {
        let named = |record: &&BranchInfo| record.name != RENEWAL_NAME;
        let (branches, _) = look(self, |table| Ok(table.live().filter(named).cloned().collect()))?;
        Ok(branches)
    }
}
