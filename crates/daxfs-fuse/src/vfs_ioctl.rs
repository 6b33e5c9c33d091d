// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Control of branches through the mount: requests as `kernel/daxfs_ioctl.h` has them.

use daxfs_core::error::Result;
use daxfs_core::format::ROOT_INO;
use daxfs_core::opener::Life;
use daxfs_core::session::BranchStatus;
use fuser::{Errno, Request};

use crate::acl::{self, Acl};
use crate::caller::{has_group, user};
use crate::control::Order;
use crate::tree::Node;
use crate::vfs_super::{Answer, Mounted, errno};

const NAME_SIZE: usize = 32;
const LIST_MAX: usize = 32;

const fn number(read: bool, write: bool, number: u32, size: usize) -> u32 {
    (read as u32) << 31 | (write as u32) << 30 | (size as u32) << 16 | 0xDA << 8 | number
}

const CREATE: u32 = number(false, true, 1, 2 * NAME_SIZE);
const SWITCH: u32 = number(false, true, 2, NAME_SIZE);
const COMMIT: u32 = number(false, true, 3, NAME_SIZE);
const ABORT: u32 = number(false, true, 4, NAME_SIZE);
const LIST: u32 = number(true, true, 5, LIST_SIZE);
const INFO: u32 = number(true, false, 6, INFO_SIZE);

const BRANCH_SIZE: usize = 40 + 2 * NAME_SIZE;
const LIST_SIZE: usize = 24 + LIST_MAX * BRANCH_SIZE;
const INFO_SIZE: usize = 24;

const MOUNTED: u32 = 0x01;
const FROZEN: u32 = 0x02;
const OWNED: u32 = 0x04;
const OWNER_DEAD: u32 = 0x08;
const QUARANTINED: u32 = 0x10;

const WRITES: u32 = 0x01;

/// What to do about an ioctl.
pub(crate) enum Ioctl {
    /// Answer with these bytes.
    Answer(Vec<u8>),
    /// Carry out, apart from the threads that serve.
    Order(Order),
}

impl Mounted {
    pub(crate) fn ioctl(
        &self,
        request: &Request,
        node: Node,
        command: u32,
        input: &[u8],
    ) -> Answer<Ioctl> {
        if !matches!(command, CREATE | SWITCH | COMMIT | ABORT | LIST | INFO)
            || !self.is_mounted_root(node)
        {
            return Err(Errno::ENOTTY);
        }
        if command == INFO {
            return Ok(Ioctl::Answer(self.info()));
        }
        if input.len() != (command >> 16 & 0x3fff) as usize {
            return Err(Errno::EINVAL);
        }
        if command == LIST {
            return self.list(input).map(Ioctl::Answer).map_err(errno);
        }
        // Without a party nobody takes orders.
        self.party().map_err(errno)?;
        self.check_control(request)?;
        let name = |at: usize| name(&input[at * NAME_SIZE..][..NAME_SIZE]);
        Ok(Ioctl::Order(match command {
            CREATE => Order::Create { name: name(0)?.ok_or(Errno::EINVAL)?, parent: name(1)? },
            SWITCH => Order::Switch { name: name(0)?.ok_or(Errno::EINVAL)? },
            COMMIT => Order::Commit { name: name(0)? },
            _ => Order::Abort { name: name(0)? },
        }))
    }

    /// Whoever may write to the root directory may control branches.
    fn check_control(&self, request: &Request) -> Answer<()> {
        let user = user(request).ok_or(Errno::EACCES)?;
        if user == 0 || user == self.owner {
            return Ok(());
        }
        // A root that is stale can still be left behind, by those who own the mount.
        let tree = self.mounted_tree()?;
        let view = tree.view().map_err(errno)?;
        let root = view.inode(ROOT_INO).map_err(errno)?;
        let xattrs = view.xattrs(&root).map_err(errno)?;
        if let Some(list) = acl::find(&xattrs, acl::ACCESS).and_then(Acl::parse) {
            let owners = (root.uid, root.gid);
            let may = list.permits(2, user, owners, |group| has_group(request, group));
            return if may { Ok(()) } else { Err(Errno::EACCES) };
        }
        let bit = match request {
            _ if user == root.uid => libc::S_IWUSR,
            _ if has_group(request, root.gid) => libc::S_IWGRP,
            _ => libc::S_IWOTH,
        };
        if root.mode & bit != 0 { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// The image that is mounted, and whether it may be written.
    fn info(&self) -> Vec<u8> {
        let mut output = self.image.superblock().uuid.to_vec();
        output.extend_from_slice(&if self.writes { WRITES } else { 0 }.to_ne_bytes());
        output.extend_from_slice(&std::process::id().to_ne_bytes());
        debug_assert_eq!(output.len(), INFO_SIZE);
        output
    }

    fn list(&self, input: &[u8]) -> Result<Vec<u8>> {
        let after = u64::from_ne_bytes(input[..8].try_into().expect("its size was checked"));
        let branches = self.party()?.branches()?;
        let mounted = self.mounted_tree().ok();
        let mounted = mounted.as_ref().and_then(|tree| tree.name());
        let main = branches.first().map_or(0, |main| main.id);
        let asked = |branch: &&BranchStatus| after == 0 || branch.id > after && branch.id != main;
        let page: Vec<_> = branches.iter().filter(asked).take(LIST_MAX).collect();
        let mut output = Vec::with_capacity(LIST_SIZE);
        for word in [after, main] {
            output.extend_from_slice(&word.to_ne_bytes());
        }
        for word in [page.len() as u32, 0] {
            output.extend_from_slice(&word.to_ne_bytes());
        }
        for branch in page {
            encode(branch, mounted == Some(&branch.name), &mut output);
        }
        output.resize(LIST_SIZE, 0);
        Ok(output)
    }
}

/// A name in a request; none if it is empty.
fn name(field: &[u8]) -> Answer<Option<String>> {
    let end = field.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
    let name = std::str::from_utf8(&field[..end]).map_err(|_| Errno::EINVAL)?;
    Ok((!name.is_empty()).then(|| name.into()))
}

fn encode(branch: &BranchStatus, mounted: bool, output: &mut Vec<u8>) {
    let dead = branch.owner.is_some_and(|owner| owner.life == Life::Dead);
    let flags = [
        (mounted, MOUNTED),
        (branch.frozen, FROZEN),
        (branch.owner.is_some(), OWNED),
        (dead, OWNER_DEAD),
        (branch.quarantined, QUARANTINED),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
    for word in [branch.id, branch.log_bytes, branch.blocks, branch.created] {
        output.extend_from_slice(&word.to_ne_bytes());
    }
    output.extend_from_slice(&flags.to_ne_bytes());
    output.extend_from_slice(&branch.owner.map_or(0, |owner| owner.pid).to_ne_bytes());
    for name in [Some(&branch.name), branch.parent.as_ref()] {
        let mut field = [0; NAME_SIZE];
        let name = name.map_or(&[][..], |name| name.as_bytes());
        let len = name.len().min(NAME_SIZE - 1);
        field[..len].copy_from_slice(&name[..len]);
        output.extend_from_slice(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header's own words, by the compiler of C.
    #[test]
    fn numbers_and_sizes_are_those_of_the_header() {
        let header = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernel/daxfs_ioctl.h");
        let program = format!(
            "#include <stdio.h>\n#include \"{header}\"\nint main(void) {{ printf(\"%u %u %u %u %u \
             %u %zu %d %d %d %d %d %d\", (unsigned)DAXFS_IOC_CREATE, (unsigned)DAXFS_IOC_SWITCH, \
             (unsigned)DAXFS_IOC_COMMIT, (unsigned)DAXFS_IOC_ABORT, (unsigned)DAXFS_IOC_LIST, \
             (unsigned)DAXFS_IOC_INFO, sizeof(struct daxfs_ioc_branch), DAXFS_IOC_MOUNTED, DAXFS_IOC_FROZEN, \
             DAXFS_IOC_OWNED, DAXFS_IOC_OWNER_DEAD, DAXFS_IOC_QUARANTINED, DAXFS_IOC_WRITES); return 0; }}\n"
        );
        let directory = std::env::temp_dir().join(format!("daxfs-ioctl-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (source, binary) = (directory.join("numbers.c"), directory.join("numbers"));
        std::fs::write(&source, program).unwrap();
        let compiled =
            std::process::Command::new("cc").arg(&source).arg("-o").arg(&binary).status().unwrap();
        assert!(compiled.success());
        let output = std::process::Command::new(&binary).output().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let flags = [MOUNTED, FROZEN, OWNED, OWNER_DEAD, QUARANTINED, WRITES];
        let ours: Vec<_> = [CREATE, SWITCH, COMMIT, ABORT, LIST, INFO, BRANCH_SIZE as u32]
            .iter()
            .chain(&flags)
            .map(u32::to_string)
            .collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), ours.join(" "));
    }
}
