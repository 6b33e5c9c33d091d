// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The branch table.

use zerocopy::IntoBytes;

use crate::format::BranchRecord;

impl BranchRecord {
    /// The checksum that the fields which never change call for.
    pub fn expected_checksum(&self) -> u32 {
        let sum = crc32c::crc32c(self.branch_id.as_bytes());
        let sum = crc32c::crc32c_append(sum, &self.name);
        let sum = crc32c::crc32c_append(sum, self.base_size.as_bytes());
        crc32c::crc32c_append(sum, self.base_head.as_bytes())
    }
}
