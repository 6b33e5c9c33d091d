// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who makes a request. What the request does not say only processes that live and are not hidden
//! tell.

use fuser::Request;

/// Leaves set-user-ID and set-group-ID where they are (capabilities(7)).
pub(crate) const CAP_FSETID: u32 = 4;

/// What requests say that make no file, where mounts may have owners of their own.
const UNSAID: u32 = u32::MAX;

/// Whether a caller acts as root.
pub(crate) fn is_root(request: &Request) -> bool {
    user(request) == Some(0)
}

/// The user that a caller acts as.
pub(crate) fn user(request: &Request) -> Option<u32> {
    id(request, request.uid(), "Uid:")
}

/// Whether a caller has a group, the first or another.
pub(crate) fn has_group(request: &Request, group: u32) -> bool {
    let is_it = |other: &str| other.parse() == Ok(group);
    id(request, request.gid(), "Gid:") == Some(group)
        || status(request, "Groups:").is_some_and(|all| all.split_whitespace().any(is_it))
}

fn id(request: &Request, said: u32, word: &str) -> Option<u32> {
    if said != UNSAID {
        return Some(said);
    }
    // The real, the effective and the saved one, and the one that counts for files.
    status(request, word)?.split_whitespace().nth(3)?.parse().ok()
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
