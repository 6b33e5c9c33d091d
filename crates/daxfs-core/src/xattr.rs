// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names of extended attributes, as Linux has them (xattr(7)).

use std::ffi::CStr;

/// The access control list that says who may do what.
pub const ACL_ACCESS: &CStr = c"system.posix_acl_access";
/// The access control list of a directory that what is made in it begins with.
pub const ACL_DEFAULT: &CStr = c"system.posix_acl_default";

/// The namespace that ordinary users are not shown.
pub const TRUSTED: &[u8] = b"trusted.";

/// The namespace of which whoever may write to a file can change the attributes.
pub const USER: &[u8] = b"user.";

/// Namespaces in which a file can have attributes of any name.
const NAMESPACES: [&[u8]; 3] = [b"security.", TRUSTED, USER];

/// Whether a file can have an attribute of that name, if something follows its namespace.
pub fn is_known(name: &[u8]) -> bool {
    NAMESPACES.iter().any(|namespace| name.starts_with(namespace))
        || [ACL_ACCESS, ACL_DEFAULT].iter().any(|list| list.to_bytes() == name)
}

/// Whether a name is a namespace alone, which names nothing.
pub fn is_namespace(name: &[u8]) -> bool {
    NAMESPACES.contains(&name)
}
