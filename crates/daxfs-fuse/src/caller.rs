// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a request does not say of who makes it: only of processes that live and are not hidden
//! anybody knows.

use fuser::Request;

/// Leaves set-user-ID and set-group-ID where they are (capabilities(7)).
pub(crate) const CAP_FSETID: u32 = 4;

/// Whether a caller has a group, the first or another.
pub(crate) fn has_group(request: &Request, group: u32) -> bool {
    let is_it = |other: &str| other.parse() == Ok(group);
    request.gid() == group
        || status(request, "Groups:").is_some_and(|all| all.split_whitespace().any(is_it))
}

/// Whether a caller has a capability now. That some were dropped is said by flags of requests that
/// the library does not pass on.
pub(crate) fn has_capability(request: &Request, capability: u32) -> bool {
    let effective = status(request, "CapEff:");
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_some_and(|set| set >> capability & 1 == 1)
}

/// A line of the caller's status (proc_pid_status(5)), without the word that it begins with.
fn status(request: &Request, word: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", request.pid())).ok()?;
    status.lines().find_map(|line| line.strip_prefix(word)).map(str::to_owned)
}
