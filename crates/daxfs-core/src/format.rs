// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every on-memory structure and constant of the format, and no logic.
//!
//! `docs/format.md` is the specification; this file is its Rust form. Each structure is declared
//! once, with the offset of every field: the compiler asserts the offsets, and [`Layout::FIELDS`]
//! lets the annotated dump and the test that compares with the document use the same declaration.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Unit of placement: every region and every inode's data start on a block.
pub const BLOCK_SIZE: u64 = 4096;
/// Files of at least this size start on a multiple of it, so that one page-table entry maps it.
pub const HUGE_SIZE: u64 = 2 << 20;
/// Format version, in the superblock and the base superblock.
pub const VERSION: u32 = 3;
/// Magic number of the superblock.
pub const MAGIC: u32 = 0x6461_7833;
/// Magic number of the base superblock.
pub const BASE_MAGIC: u32 = 0x6464_6179;
/// Inode number of the root directory.
pub const ROOT_INO: u64 = 1;
/// Longest file name, in bytes.
pub const NAME_MAX: usize = 128;
/// Longest symlink target, in bytes, without its NUL.
pub const TARGET_MAX: u64 = 4095;
/// Most names that a log may give one file.
pub const FILE_NLINK_MAX: u32 = 1 << 31;
/// Most base inodes in one image (validation keeps a few bytes for each).
pub const INODES_MAX: u32 = 1 << 30;
/// Highest value that a sound image has of what is only ever counted up: it never comes to its end.
pub const COUNTER_MAX: u64 = 1 << 62;
/// Records in a branch table.
pub const BRANCH_RECORDS: u32 = 256;
/// Longest branch name, in bytes.
pub const BRANCH_NAME_MAX: usize = 31;
/// Identity of main's first record, and its name.
pub const MAIN_ID: u64 = 1;
/// Name of the branch that every image with branches has.
pub const MAIN_NAME: &str = "main";
/// Name of a branch of main that is made only to be committed, so that main goes on in a fresh log.
/// No other can have it, and it is not listed.
pub const RENEWAL_NAME: &str = ".main";
/// Entries in an opener table.
pub const OPENER_ENTRIES: u32 = 256;
/// Bit of an opener entry's word: the entry is being claimed under the identity in the other bits.
pub const OPENER_CLAIMED: u64 = 1 << 62;
/// Bit of an opener entry's word: the entry is free, and had the identity in the other bits.
pub const OPENER_FREED: u64 = 1 << 61;
/// Bit of an opener entry's `proof`: the opener holds a file lock on its entry's bytes.
pub const PROOF_LOCK: u32 = 1;
/// Bit of a branch record's owner word: children were made from it.
pub const OWNER_FROZEN: u64 = 1 << 63;
/// Branch slots that only folding may take.
pub const RESERVE_SLOTS: u32 = 2;
/// Longest name of an extended attribute, in bytes.
pub const XATTR_NAME_MAX: usize = 255;
/// Longest value of an extended attribute, in bytes.
pub const XATTR_VALUE_MAX: usize = 65536;
/// Largest attribute set of one inode, in bytes.
pub const XATTR_SET_MAX: usize = 1 << 20;

/// Feature bits of the superblock: 0–15 compatible, 16–31 incompatible.
pub mod feature {
    /// Dirents are in ascending byte order of names.
    pub const SORTED_DIRS: u32 = 1 << 0;
    /// Base inodes carry modification time and device number.
    pub const INODE_EXT: u32 = 1 << 1;
    /// Base inodes may point to extended attributes.
    pub const XATTRS: u32 = 1 << 2;
    /// Superblock, base superblock, inodes, dirent arrays, symlinks and attribute sets are checksummed.
    pub const CHECKSUMS: u32 = 1 << 3;
    /// Contents of regular files are checksummed.
    pub const DATA_CHECKSUMS: u32 = 1 << 4;
    /// The superblock carries a UUID and a label.
    pub const IDENTITY: u32 = 1 << 5;
    /// The delta region is one of ours: owner map, opener table, heap, `head`.
    pub const BRANCHES: u32 = 1 << 16;

    /// Bits that a reader must know before it may touch an image.
    pub const INCOMPATIBLE: u32 = 0xffff_0000;
    /// Every bit this version knows, with its name.
    pub const NAMES: [(u32, &str); 7] = [
        (SORTED_DIRS, "sorted-dirs"),
        (INODE_EXT, "inode-ext"),
        (XATTRS, "xattrs"),
        (CHECKSUMS, "checksums"),
        (DATA_CHECKSUMS, "data-checksums"),
        (IDENTITY, "identity"),
        (BRANCHES, "branches"),
    ];
}

/// Values of a branch record's state.
pub mod state {
    /// The slot may be taken.
    pub const FREE: u32 = 0;
    /// The record is a branch, or part of main.
    pub const ACTIVE: u32 = 1;
    /// Plain v3: committed.
    pub const COMMITTED: u32 = 2;
    /// Plain v3: aborted.
    pub const ABORTED: u32 = 3;
    /// Being created.
    pub const NEW: u32 = 4;
    /// Aborted or lost; its space is given back once no reader needs it.
    pub const RETIRED: u32 = 5;
}

/// Bits of a branch record's `flags`.
pub mod branch_flag {
    /// Part of main, and replaced by a fold or about to be.
    pub const ABSORBED: u32 = 1;
    /// Made by folding: the merge of the layers that it replaces.
    pub const FOLDED: u32 = 2;
    /// Every data block that the fold names is its own.
    pub const FOLD_DONE: u32 = 4;
    /// Taken from an owner that nobody could prove dead: takes no more entries.
    pub const QUARANTINED: u32 = 8;

    /// Every bit.
    pub const ALL: u32 = ABSORBED | FOLDED | FOLD_DONE | QUARANTINED;
}

/// Types of delta log entries: 1 to 8 are plain v3's, the others ours.
pub mod entry {
    /// Bytes written to a file.
    pub const WRITE: u32 = 1;
    /// A new file, device node, FIFO or socket.
    pub const CREATE: u32 = 2;
    /// A name removed.
    pub const DELETE: u32 = 3;
    /// A file cut or extended.
    pub const TRUNCATE: u32 = 4;
    /// A new directory.
    pub const MKDIR: u32 = 5;
    /// A name moved.
    pub const RENAME: u32 = 6;
    /// Mode, owner or size changed.
    pub const SETATTR: u32 = 7;
    /// A new symbolic link.
    pub const SYMLINK: u32 = 8;
    /// The log goes on in another segment.
    pub const CONTINUE: u32 = 16;
    /// A new inode of any type, with owner, device and target.
    pub const MKNOD: u32 = 17;
    /// One more name for an inode.
    pub const LINK: u32 = 18;
    /// Bytes of a file that lie outside the log.
    pub const EXTENT: u32 = 19;
    /// A hole in a file.
    pub const PUNCH: u32 = 20;
    /// An extended attribute set or removed.
    pub const XATTR: u32 = 21;
}

/// Bits of a RENAME entry's `flags`.
pub mod rename {
    /// Both names exist and swap their inodes.
    pub const EXCHANGE: u32 = 1;
}

/// Bits of an EXTENT entry's `flags`.
pub mod extent {
    /// The file's size stays as it is.
    pub const KEEP_SIZE: u32 = 1;
}

/// Bits of an XATTR entry's `flags`.
pub mod xattr {
    /// The attribute is removed.
    pub const REMOVE: u16 = 1;
}

/// Bits of a SETATTR entry's `valid` field.
pub mod setattr {
    /// `mode` is meant.
    pub const MODE: u32 = 1;
    /// `uid` is meant.
    pub const UID: u32 = 2;
    /// `gid` is meant.
    pub const GID: u32 = 4;
    /// `size` is meant.
    pub const SIZE: u32 = 8;
    /// Ours: `atime` is meant.
    pub const ATIME: u32 = 16;
    /// Ours: `mtime` is meant.
    pub const MTIME: u32 = 32;
    /// Ours: `ctime` is meant, instead of the entry's own time.
    pub const CTIME: u32 = 64;

    /// With any of these, the times follow the body.
    pub const TIMES: u32 = ATIME | MTIME | CTIME;
}

/// Type and permission bits of `mode`, as in POSIX.
pub mod mode {
    /// Mask of the file type.
    pub const TYPE: u32 = 0o170000;
    /// Regular file.
    pub const REGULAR: u32 = 0o100000;
    /// Directory.
    pub const DIRECTORY: u32 = 0o040000;
    /// Symbolic link.
    pub const SYMLINK: u32 = 0o120000;
    /// Character device.
    pub const CHAR: u32 = 0o020000;
    /// Block device.
    pub const BLOCK: u32 = 0o060000;
    /// FIFO.
    pub const FIFO: u32 = 0o010000;
    /// Socket.
    pub const SOCKET: u32 = 0o140000;

    /// Runs with the file's group, or gives a directory's group to what is made in it.
    pub const SET_GROUP_ID: u32 = 0o2000;

    /// Every type.
    pub const KINDS: [u32; 7] = [REGULAR, DIRECTORY, SYMLINK, CHAR, BLOCK, FIFO, SOCKET];

    /// Whether a file of this mode has a device number.
    pub fn is_device(mode: u32) -> bool {
        matches!(mode & TYPE, CHAR | BLOCK)
    }
}

/// Device numbers as inodes have them, in the kernel's 32-bit encoding.
pub mod device {
    /// Encodes a number, if it has no more than 12 bits for the major and 20 for the minor one.
    pub fn encode(major: u32, minor: u32) -> Option<u32> {
        let fits = major < 1 << 12 && minor < 1 << 20;
        fits.then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
    }

    /// Major and minor number.
    pub fn numbers(rdev: u32) -> (u32, u32) {
        ((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00))
    }
}

/// How a field is shown and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned integer.
    Number,
    /// Signed integer.
    Signed,
    /// NUL-padded text.
    Text,
    /// Raw bytes.
    Bytes,
    /// Bytes that are zero.
    Reserved,
}

/// One field of an on-memory structure.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Name, as in `docs/format.md`.
    pub name: &'static str,
    /// Offset from the start of the structure, in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// How to show it.
    pub kind: Kind,
}

/// An on-memory structure that knows its own fields.
pub trait Layout {
    /// Name, as in `docs/format.md`.
    const NAME: &'static str;
    /// Every field, in order, without gaps.
    const FIELDS: &'static [Field];
}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $title:literal, $size:literal {
        $($(#[$fdoc:meta])* $offset:literal $field:ident: $type:ty = $kind:ident,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)+ }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(std::mem::offset_of!($name, $field) == $offset);)+
        };

        impl Layout for $name {
            const NAME: &'static str = $title;
            const FIELDS: &'static [Field] = &[$(Field {
                name: stringify!($field),
                offset: $offset,
                size: size_of::<$type>(),
                kind: Kind::$kind,
            },)+];
        }

        impl $name {
            /// A structure of zeroes.
            pub fn zeroed() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}

layout! {
    /// The first block of an image.
    Superblock, "superblock", 4096 {
        /// [`MAGIC`].
        0 magic: U32 = Number,
        /// [`VERSION`].
        4 version: U32 = Number,
        /// [`feature`] bits.
        8 flags: U32 = Number,
        /// [`BLOCK_SIZE`].
        12 block_size: U32 = Number,
        /// Bytes of the whole image.
        16 total_size: U64 = Number,
        /// Image offset of the base image, 0 when there is none.
        24 base_offset: U64 = Number,
        /// Bytes of the base image.
        32 base_size: U64 = Number,
        /// Image offset of the branch table, 0 in a static image.
        40 branch_table_offset: U64 = Number,
        /// Records in the branch table, 0 in a static image.
        48 branch_table_entries: U32 = Number,
        /// Plain v3 only; zero in ours.
        52 active_branches: U32 = Number,
        /// Plain v3 only; zero in ours.
        56 next_branch_id: U64 = Number,
        /// Next free inode number; the one field before the checksum that changes.
        64 next_inode_id: U64 = Number,
        /// Image offset of the delta region.
        72 delta_region_offset: U64 = Number,
        /// Bytes of the delta region.
        80 delta_region_size: U64 = Number,
        /// Plain v3: next free byte. Ours: the end of the delta region.
        88 delta_alloc_offset: U64 = Number,
        /// Identity of the image.
        96 uuid: [u8; 16] = Bytes,
        /// Name given by the user.
        112 label: [u8; 64] = Text,
        /// Image offset of the owner map.
        176 owner_map_offset: U64 = Number,
        /// Image offset of the opener table.
        184 opener_table_offset: U64 = Number,
        /// Entries in the opener table.
        192 opener_table_entries: U32 = Number,
        /// Branch slots that only folding may take.
        196 reserve_slots: U32 = Number,
        /// Image offset of the first heap block.
        200 heap_offset: U64 = Number,
        /// Blocks of the heap; the owner map has one word for each.
        208 heap_blocks: U64 = Number,
        /// Heap blocks that serve only DELETE, TRUNCATE and folding.
        216 reserve_blocks: U64 = Number,
        /// Zero.
        224 reserved: [u8; 796] = Reserved,
        /// CRC-32C of bytes 0–63 and 72–1019.
        1020 checksum: U32 = Number,
        /// Record that is main's tip: the word that decides commits.
        1024 head: U64 = Number,
        /// Zero.
        1032 reserved_head: [u8; 56] = Reserved,
        /// Counts events that may end the need for a record.
        1088 epoch: U64 = Number,
        /// Zero.
        1096 reserved_epoch: [u8; 56] = Reserved,
        /// Opener that does maintenance, 0 = nobody.
        1152 maint: U64 = Number,
        /// Zero.
        1160 reserved_maint: [u8; 56] = Reserved,
        /// Heap block where a search for free ones may start.
        1216 alloc_hint: U64 = Number,
        /// Zero.
        1224 reserved_end: [u8; 2872] = Reserved,
    }
}

layout! {
    /// One slot of the branch table.
    BranchRecord, "branch record", 128 {
        /// Identity: 1 + slot + 256·n.
        0 branch_id: U64 = Number,
        /// Identity of the parent, 0 = the base image.
        8 parent_id: U64 = Number,
        /// Image offset of the log's first segment.
        16 delta_log_offset: U64 = Number,
        /// Bytes published.
        24 delta_log_size: U64 = Number,
        /// Bytes of the first segment.
        32 delta_log_capacity: U64 = Number,
        /// One of [`state`].
        40 state: U32 = Number,
        /// Plain v3 only.
        44 refcount: U32 = Number,
        /// Plain v3 only.
        48 next_local_ino: U64 = Number,
        /// Name, NUL-terminated.
        56 name: [u8; 32] = Text,
        /// Bit 63 FROZEN, the rest the opener that may write.
        88 owner: U64 = Number,
        /// The parent's log size at creation.
        96 base_size: U64 = Number,
        /// Value of `head` that the family was made from.
        104 base_head: U64 = Number,
        /// ABSORBED, FOLDED, FOLD_DONE, QUARANTINED.
        112 flags: U32 = Number,
        /// CRC-32C of branch_id, name, base_size, base_head.
        116 checksum: U32 = Number,
        /// Creation time; while RETIRED the epoch of retirement.
        120 stamp: U64 = Number,
    }
}

layout! {
    /// One entry of the opener table.
    OpenerEntry, "opener entry", 64 {
        /// Identity, as for branch records, with a claim bit; 0 = free.
        0 opener_id: U64 = Number,
        /// Epoch it may read at, 0 = idle.
        8 pin: U64 = Number,
        /// Identity of the machine, 0 = not known.
        16 host: U64 = Number,
        /// Identity of that machine's boot, 0 = not known.
        24 boot: U64 = Number,
        /// Process.
        32 pid: U32 = Number,
        /// How its death can be proved: [`PROOF_LOCK`] or 0.
        36 proof: U32 = Number,
        /// Pid namespace (inode number).
        40 pid_namespace: U64 = Number,
        /// Start time of the process, in clock ticks since boot.
        48 start_time: U64 = Number,
        /// Last sign of life, ns of wall clock.
        56 heartbeat: U64 = Number,
    }
}

layout! {
    /// The first block of the base image.
    BaseSuperblock, "base superblock", 4096 {
        /// [`BASE_MAGIC`].
        0 magic: U32 = Number,
        /// [`VERSION`].
        4 version: U32 = Number,
        /// Zero.
        8 flags: U32 = Number,
        /// [`BLOCK_SIZE`].
        12 block_size: U32 = Number,
        /// Bytes of the base image.
        16 total_size: U64 = Number,
        /// Base offset of the inode table.
        24 inode_offset: U64 = Number,
        /// Inodes in the table.
        32 inode_count: U32 = Number,
        /// [`ROOT_INO`].
        36 root_inode: U32 = Number,
        /// Base offset where the inodes' data begin.
        40 data_offset: U64 = Number,
        /// Base offset of the extended attributes, 0 when there are none.
        48 xattr_offset: U64 = Number,
        /// Bytes of the extended attributes.
        56 xattr_size: U64 = Number,
        /// Zero.
        64 reserved: [u8; 4028] = Reserved,
        /// CRC-32C of bytes 0–4091.
        4092 checksum: U32 = Number,
    }
}

layout! {
    /// A base inode; inode *n* is entry *n* − 1 of the table.
    BaseInode, "base inode", 64 {
        /// Inode number.
        0 ino: U32 = Number,
        /// Type and permissions.
        4 mode: U32 = Number,
        /// Owner.
        8 uid: U32 = Number,
        /// Group.
        12 gid: U32 = Number,
        /// Bytes of data.
        16 size: U64 = Number,
        /// Base offset of the data.
        24 data_offset: U64 = Number,
        /// Number of names; of a directory 2 + subdirectories.
        32 nlink: U32 = Number,
        /// Device number, in the kernel's 32-bit encoding.
        36 rdev: U32 = Number,
        /// Modification time, ns since 1970.
        40 mtime: I64 = Signed,
        /// Base offset of the attribute set, 0 = none.
        48 xattr_offset: U64 = Number,
        /// CRC-32C of the data (regular files: with DATA_CHECKSUMS only).
        56 data_checksum: U32 = Number,
        /// CRC-32C of bytes 0–59.
        60 checksum: U32 = Number,
    }
}

layout! {
    /// A directory entry.
    RawDirent, "dirent", 144 {
        /// Inode number.
        0 ino: U32 = Number,
        /// Mode of the inode.
        4 mode: U32 = Number,
        /// Bytes of the name.
        8 name_len: U16 = Number,
        /// Zero.
        10 reserved: [u8; 6] = Reserved,
        /// The name, padded with zeroes.
        16 name: [u8; 128] = Text,
    }
}

layout! {
    /// Header of an attribute set; entries follow.
    XattrSet, "xattr set", 16 {
        /// Bytes of the set, header and padding included.
        0 size: U32 = Number,
        /// CRC-32C of bytes 8 to the end of the set.
        4 checksum: U32 = Number,
        /// Entries in the set.
        8 count: U32 = Number,
        /// Zero.
        12 reserved: [u8; 4] = Reserved,
    }
}

layout! {
    /// Header of one attribute; name, value and zeroes up to a multiple of 8 follow.
    XattrEntry, "xattr entry", 8 {
        /// Bytes of the name.
        0 name_len: U16 = Number,
        /// Zero.
        2 reserved: [u8; 2] = Reserved,
        /// Bytes of the value.
        4 value_len: U32 = Number,
    }
}

layout! {
    /// Header of a delta log entry.
    EntryHeader, "log entry header", 24 {
        /// One of [`entry`].
        0 kind: U32 = Number,
        /// Bytes of the entry, header included.
        4 total_size: U32 = Number,
        /// Inode concerned.
        8 ino: U64 = Number,
        /// Wall clock, ns.
        16 timestamp: U64 = Number,
    }
}

layout! {
    /// Body of WRITE; the bytes follow.
    WriteBody, "WRITE", 16 {
        /// Offset in the file.
        0 offset: U64 = Number,
        /// Bytes written.
        8 len: U32 = Number,
        /// Zero.
        12 flags: U32 = Number,
    }
}

layout! {
    /// Body of CREATE and MKDIR; the name follows.
    CreateBody, "CREATE, MKDIR", 24 {
        /// Directory.
        0 parent_ino: U64 = Number,
        /// The new inode.
        8 new_ino: U64 = Number,
        /// Type and permissions.
        16 mode: U32 = Number,
        /// Bytes of the name.
        20 name_len: U16 = Number,
        /// Zero.
        22 flags: U16 = Number,
    }
}

layout! {
    /// Body of DELETE; the name follows.
    DeleteBody, "DELETE", 16 {
        /// Directory.
        0 parent_ino: U64 = Number,
        /// Bytes of the name.
        8 name_len: U16 = Number,
        /// Zero.
        10 flags: U16 = Number,
        /// Zero.
        12 reserved: U32 = Number,
    }
}

layout! {
    /// Body of TRUNCATE.
    TruncateBody, "TRUNCATE", 8 {
        /// Size of the file from now on.
        0 new_size: U64 = Number,
    }
}

layout! {
    /// Body of RENAME; both names follow, the old one first.
    RenameBody, "RENAME", 32 {
        /// Directory of the old name.
        0 old_parent: U64 = Number,
        /// Directory of the new name.
        8 new_parent: U64 = Number,
        /// Inode moved.
        16 ino: U64 = Number,
        /// Bytes of the old name.
        24 old_name_len: U16 = Number,
        /// Bytes of the new name.
        26 new_name_len: U16 = Number,
        /// [`rename`] bits; zero in plain v3.
        28 flags: U32 = Number,
    }
}

layout! {
    /// Body of SETATTR.
    SetattrBody, "SETATTR", 24 {
        /// Type and permissions.
        0 mode: U32 = Number,
        /// Owner.
        4 uid: U32 = Number,
        /// Group.
        8 gid: U32 = Number,
        /// [`setattr`] bits.
        12 valid: U32 = Number,
        /// Size.
        16 size: U64 = Number,
    }
}

layout! {
    /// Body of SYMLINK; name, target and a NUL follow.
    SymlinkBody, "SYMLINK", 24 {
        /// Directory.
        0 parent_ino: U64 = Number,
        /// The new inode.
        8 new_ino: U64 = Number,
        /// Bytes of the name.
        16 name_len: U16 = Number,
        /// Bytes of the target, without the NUL.
        18 target_len: U16 = Number,
        /// Zero.
        20 reserved: U32 = Number,
    }
}

layout! {
    /// What follows the body of SETATTR where a time is meant.
    SetattrTimes, "SETATTR times", 24 {
        /// Access time, ns since 1970.
        0 atime: I64 = Signed,
        /// Modification time, ns since 1970.
        8 mtime: I64 = Signed,
        /// Change time, ns since 1970.
        16 ctime: I64 = Signed,
    }
}

layout! {
    /// Body of CONTINUE.
    ContinueBody, "CONTINUE", 16 {
        /// Image offset of the next segment, on a block.
        0 next: U64 = Number,
        /// Bytes of the next segment, whole blocks.
        8 capacity: U64 = Number,
    }
}

layout! {
    /// Body of MKNOD; the name follows, and of a symlink the target and a NUL.
    MknodBody, "MKNOD", 32 {
        /// Directory.
        0 parent_ino: U64 = Number,
        /// Type and permissions.
        8 mode: U32 = Number,
        /// Owner.
        12 uid: U32 = Number,
        /// Group.
        16 gid: U32 = Number,
        /// Device number, in the kernel's 32-bit encoding.
        20 rdev: U32 = Number,
        /// Bytes of the name.
        24 name_len: U16 = Number,
        /// Bytes of a symlink's target, without the NUL.
        26 target_len: U16 = Number,
        /// Zero.
        28 reserved: [u8; 4] = Reserved,
    }
}

layout! {
    /// Body of LINK; the name follows.
    LinkBody, "LINK", 16 {
        /// Directory.
        0 parent_ino: U64 = Number,
        /// Bytes of the name.
        8 name_len: U16 = Number,
        /// Zero.
        10 reserved: [u8; 6] = Reserved,
    }
}

layout! {
    /// Body of EXTENT.
    ExtentBody, "EXTENT", 32 {
        /// Offset in the file.
        0 offset: U64 = Number,
        /// Bytes.
        8 len: U64 = Number,
        /// Image offset of the bytes.
        16 image_offset: U64 = Number,
        /// [`extent`] bits.
        24 flags: U32 = Number,
        /// Zero.
        28 reserved: [u8; 4] = Reserved,
    }
}

layout! {
    /// Body of PUNCH.
    PunchBody, "PUNCH", 16 {
        /// Offset in the file.
        0 offset: U64 = Number,
        /// Bytes.
        8 len: U64 = Number,
    }
}

layout! {
    /// Body of XATTR; name and value follow.
    XattrBody, "XATTR", 8 {
        /// Bytes of the name.
        0 name_len: U16 = Number,
        /// [`xattr`] bits.
        2 flags: U16 = Number,
        /// Bytes of the value.
        4 value_len: U32 = Number,
    }
}

/// Bytes of one owner-map word.
pub const OWNER_WORD: u64 = 8;
/// Size of the branch table in bytes.
pub const BRANCH_TABLE_SIZE: u64 = BRANCH_RECORDS as u64 * size_of::<BranchRecord>() as u64;
/// Size of the opener table in bytes.
pub const OPENER_TABLE_SIZE: u64 = OPENER_ENTRIES as u64 * size_of::<OpenerEntry>() as u64;
/// Size of a dirent in bytes.
pub const DIRENT_SIZE: u64 = size_of::<RawDirent>() as u64;
/// Size of a base inode in bytes.
pub const INODE_SIZE: u64 = size_of::<BaseInode>() as u64;

/// Every structure of the format, for tools that describe it.
pub const STRUCTURES: &[(&str, &[Field])] = &[
    (Superblock::NAME, Superblock::FIELDS),
    (BranchRecord::NAME, BranchRecord::FIELDS),
    (OpenerEntry::NAME, OpenerEntry::FIELDS),
    (BaseSuperblock::NAME, BaseSuperblock::FIELDS),
    (BaseInode::NAME, BaseInode::FIELDS),
    (RawDirent::NAME, RawDirent::FIELDS),
    (XattrSet::NAME, XattrSet::FIELDS),
    (XattrEntry::NAME, XattrEntry::FIELDS),
    (EntryHeader::NAME, EntryHeader::FIELDS),
    (WriteBody::NAME, WriteBody::FIELDS),
    (CreateBody::NAME, CreateBody::FIELDS),
    (DeleteBody::NAME, DeleteBody::FIELDS),
    (TruncateBody::NAME, TruncateBody::FIELDS),
    (RenameBody::NAME, RenameBody::FIELDS),
    (SetattrBody::NAME, SetattrBody::FIELDS),
    (SymlinkBody::NAME, SymlinkBody::FIELDS),
    (SetattrTimes::NAME, SetattrTimes::FIELDS),
    (ContinueBody::NAME, ContinueBody::FIELDS),
    (MknodBody::NAME, MknodBody::FIELDS),
    (LinkBody::NAME, LinkBody::FIELDS),
    (ExtentBody::NAME, ExtentBody::FIELDS),
    (PunchBody::NAME, PunchBody::FIELDS),
    (XattrBody::NAME, XattrBody::FIELDS),
];
