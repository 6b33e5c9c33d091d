// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a check found: one record for each contradiction between an image and the format.

use std::fmt;

use crate::error::Error;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Plain v3 tools leave it so; readers cope.
    Warning,
    /// The image breaks the format.
    Error,
}

/// One contradiction: what, where, expected, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Field or structure.
    pub what: &'static str,
    /// Image offset in bytes.
    pub offset: u64,
    /// What the format demands.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, what, offset, expected, found } = self;
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {what} at offset {offset:#x}: expected {expected}, found {found}")
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        let Finding { what, offset, expected, found, .. } = finding;
        Self::Corrupt { what, offset, expected, found }
    }
}

/// Findings of one check, counted in full and kept up to a limit.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    errors: u64,
    warnings: u64,
}

impl Findings {
    /// Most findings that are kept; a hostile image could have one for each of its bytes.
    pub const KEPT: usize = 10_000;

    /// Notes an error.
    pub fn error(
        &mut self,
        what: &'static str,
        offset: u64,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.errors += 1;
        self.keep(Severity::Error, what, offset, expected, found);
    }

    /// Notes a warning.
    pub fn warning(
        &mut self,
        what: &'static str,
        offset: u64,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.warnings += 1;
        self.keep(Severity::Warning, what, offset, expected, found);
    }

    fn keep(
        &mut self,
        severity: Severity,
        what: &'static str,
        offset: u64,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        if self.kept.len() < Self::KEPT {
            let (expected, found) = (expected.to_string(), found.to_string());
            self.kept.push(Finding { severity, what, offset, expected, found });
        }
    }

    /// Notes an error unless `found` is `expected`.
    pub fn equal<T: PartialEq + fmt::LowerHex>(
        &mut self,
        what: &'static str,
        offset: u64,
        expected: T,
        found: T,
    ) {
        if expected != found {
            self.error(what, offset, format_args!("{expected:#x}"), format_args!("{found:#x}"));
        }
    }

    /// Notes an error unless every byte is zero.
    pub fn zeroes(&mut self, what: &'static str, offset: u64, bytes: &[u8]) {
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            self.error(what, offset + at as u64, "0x0", format_args!("{:#x}", bytes[at]));
        }
    }

    /// Notes what an operation failed with.
    pub fn absorb(&mut self, failure: Error) {
        match failure {
            Error::Corrupt { what, offset, expected, found } => {
                self.error(what, offset, expected, found);
            }
            other => self.error("access", 0, "success", other),
        }
    }

    /// Adds the findings of another check.
    pub fn merge(&mut self, other: Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        let room = Self::KEPT.saturating_sub(self.kept.len());
        self.kept.extend(other.kept.into_iter().take(room));
    }

    /// The findings kept.
    pub fn list(&self) -> &[Finding] {
        &self.kept
    }

    /// Number of errors, kept or not.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Number of warnings, kept or not.
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// The first error as an [`Error`], if there is one.
    pub fn into_result(self) -> Result<(), Error> {
        match self.kept.into_iter().find(|finding| finding.severity == Severity::Error) {
            Some(first) => Err(first.into()),
            None => Ok(()),
        }
    }
}
