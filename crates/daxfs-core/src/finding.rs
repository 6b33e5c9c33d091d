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
///
/// Where there are errors at least one is kept, however many warnings came before it.
#[derive(Debug, Clone)]
pub struct Findings {
    kept: Vec<Finding>,
    limit: usize,
    errors: u64,
    warnings: u64,
}

impl Default for Findings {
    fn default() -> Self {
        Self { kept: Vec::new(), limit: Self::KEPT, errors: 0, warnings: 0 }
    }
}

impl Findings {
    /// Most findings that are kept; a hostile image could have one for each of its bytes.
    pub const KEPT: usize = 10_000;
    /// Most that one of many tasks keeps.
    const KEPT_BY_TASK: usize = 128;

    /// For one of many tasks, whose findings are merged.
    pub fn of_task() -> Self {
        Self { limit: Self::KEPT_BY_TASK, ..Self::default() }
    }

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
        if self.has_room(severity) {
            let (expected, found) = (expected.to_string(), found.to_string());
            self.kept.push(Finding { severity, what, offset, expected, found });
        }
    }

    /// Warnings fill only half, so that they never crowd out the errors.
    fn has_room(&self, severity: Severity) -> bool {
        let most = match severity {
            Severity::Warning => self.limit / 2,
            Severity::Error => self.limit,
        };
        self.kept.len() < most
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
        // A loop that does not end early takes many bytes at a time.
        let any = bytes.iter().fold(0, |any, byte| any | byte) != 0;
        if any && let Some(at) = bytes.iter().position(|byte| *byte != 0) {
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
        for finding in other.kept {
            if self.has_room(finding.severity) {
                self.kept.push(finding);
            }
        }
    }

    /// Forgets what another check of the same did not find.
    pub fn retain_also_in(&mut self, other: &Self) {
        self.kept.retain(|finding| other.kept.contains(finding));
        let count = |severity| {
            self.kept.iter().filter(|finding| finding.severity == severity).count() as u64
        };
        (self.errors, self.warnings) = (count(Severity::Error), count(Severity::Warning));
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

    /// The first error, if there is one.
    pub fn first_error(&self) -> Option<&Finding> {
        self.kept.iter().find(|finding| finding.severity == Severity::Error)
    }

    /// The first error as an [`Error`], if there is one.
    pub fn into_result(self) -> Result<(), Error> {
        self.first_error().map_or(Ok(()), |first| Err(first.clone().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, Severity};

    #[test]
    fn warnings_never_hide_an_error() {
        let mut task = Findings::of_task();
        let mut all = Findings::default();
        for offset in 0..2 * Findings::KEPT as u64 {
            task.warning("padding", offset, 0, 1);
            all.warning("padding", offset, 0, 1);
        }
        task.error("magic", 0, 0, 1);
        assert!(task.list().len() < Findings::KEPT_BY_TASK);
        all.merge(task);
        assert_eq!((all.errors(), all.warnings()), (1, 4 * Findings::KEPT as u64));
        assert_eq!(all.list().last().map(|last| last.severity), Some(Severity::Error));
        assert!(all.into_result().is_err());
    }
}
