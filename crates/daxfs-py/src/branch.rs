// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Branches: the engine below `daxfs.Branch`, and what the branch table says of them.

use daxfs_core::Error;
use daxfs_core::base::Inode;
use daxfs_core::branch::Listed;
use daxfs_core::branch::handle::Branch as Engine;
use daxfs_core::format::{BLOCK_SIZE, branch_flag, mode};
use daxfs_core::opener::{Life, OpenerInfo};
use daxfs_core::paths::Place;
use daxfs_core::region::Access;
use daxfs_core::session;
use daxfs_core::view::Links;
use daxfs_core::write::{NewInode, Rename, SetAttr, XattrMode};
use pyo3::PyClassInitializer;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::buffer::{self, Buffer};
use crate::error::Result;
use crate::file::File;
use crate::image::Image;
use crate::paths::ImagePath;
use crate::tree::{Source, Tree, expect_file, links};

/// A party that has an image open for writing.
#[pyclass(frozen, eq, hash, get_all, from_py_object, new = "from_fields", module = "daxfs._daxfs")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Opener {
    /// Identity in the opener table.
    id: u64,
    /// Process.
    pid: u32,
    /// Whether it runs under the same kernel, since the same boot.
    same_system: bool,
    /// Whether it lives; none where that cannot be told from here.
    alive: Option<bool>,
}

impl From<OpenerInfo> for Opener {
    fn from(info: OpenerInfo) -> Self {
        let alive = match info.life {
            Life::Alive => Some(true),
            Life::Dead => Some(false),
            Life::Unknown => None,
        };
        Self { id: info.id, pid: info.pid, same_system: info.same_boot, alive }
    }
}

#[pymethods]
impl Opener {
    fn __repr__(&self) -> String {
        format!("<Opener {} pid={}>", self.id, self.pid)
    }

    fn __getnewargs__(&self) -> (u64, u32, bool, Option<bool>) {
        (self.id, self.pid, self.same_system, self.alive)
    }
}

/// A branch of an image.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct BranchStatus {
    /// Identity; never used twice.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// Name of the branch that it was made from; none for main.
    pub(crate) parent: Option<String>,
    /// Bytes that its log has published.
    pub(crate) log_size: u64,
    /// Bytes of the blocks that it owns: its log and the data of files. None if the image was
    /// opened for reading.
    pub(crate) size: Option<u64>,
    /// When it was made, ns since 1970; none if that is not known, as in an image opened for reading.
    pub(crate) created_ns: Option<u64>,
    /// Who writes to it, if anybody; none if the image was opened for reading.
    pub(crate) owner: Option<Opener>,
    /// Whether branches were made from it, so that it cannot be written.
    pub(crate) frozen: bool,
    /// Whether it was taken by force from an owner who may live.
    pub(crate) quarantined: bool,
    /// Layers that make up its tree, besides the base.
    pub(crate) layers: u64,
}

impl From<session::BranchStatus> for BranchStatus {
    fn from(status: session::BranchStatus) -> Self {
        Self {
            id: status.id,
            name: status.name,
            parent: status.parent,
            log_size: status.log_bytes,
            size: Some(status.blocks * BLOCK_SIZE),
            created_ns: Some(status.created).filter(|created| *created != 0),
            owner: status.owner.map(Opener::from),
            frozen: status.frozen,
            quarantined: status.quarantined,
            layers: status.layers,
        }
    }
}

impl From<&Listed<'_>> for BranchStatus {
    fn from(listed: &Listed<'_>) -> Self {
        let record = listed.record;
        Self {
            id: record.id,
            name: record.name.clone(),
            parent: listed.parent.map(str::to_owned),
            log_size: record.log_size,
            size: None,
            created_ns: None,
            owner: None,
            frozen: listed.frozen,
            quarantined: record.is(branch_flag::QUARANTINED),
            layers: listed.layers,
        }
    }
}

#[pymethods]
impl BranchStatus {
    fn __repr__(&self) -> String {
        let parent = self.parent.as_ref().map_or("None".into(), |parent| format!("{parent:?}"));
        format!("BranchStatus(name={:?}, parent={parent}, log_size={})", self.name, self.log_size)
    }

    #[expect(clippy::type_complexity, reason = "the fields, in order")]
    fn __getnewargs__(
        &self,
    ) -> (u64, &str, Option<&str>, u64, Option<u64>, Option<u64>, Option<Opener>, bool, bool, u64)
    {
        let Self { id, log_size, size, created_ns, frozen, quarantined, layers, .. } = *self;
        let (name, parent, owner) = (&self.name[..], self.parent.as_deref(), self.owner.clone());
        (id, name, parent, log_size, size, created_ns, owner, frozen, quarantined, layers)
    }
}

/// A branch that is open.
#[pyclass(frozen, subclass, extends = Tree, module = "daxfs._daxfs")]
pub(crate) struct Branch {
    name: String,
}

/// The open branch below a `Branch`.
fn engine(slf: &Bound<'_, Branch>) -> Result<Engine> {
    match slf.as_super().get().source()? {
        Source::Live(branch) => Ok(branch),
        Source::Fixed(_) => unreachable!("branches are made of live sources alone"),
    }
}

/// Names the path that was asked for where the engine knows only its last name.
fn about(path: &ImagePath) -> impl FnOnce(Error) -> Error + '_ {
    move |mut error| {
        if let Error::NotFound { path: named }
        | Error::NotDirectory { path: named }
        | Error::IsDirectory { path: named }
        | Error::FileExists { path: named }
        | Error::NotEmpty { path: named }
        | Error::NotPermitted { path: named, .. }
        | Error::NoAttribute { path: named, .. }
        | Error::TooManyLinks { path: named }
        | Error::Loop { path: named }
        | Error::TooLong { path: named, .. } = &mut error
        {
            named.clone_from(&path.0);
        }
        error
    }
}

fn place(branch: &Engine, path: &ImagePath) -> daxfs_core::Result<Place> {
    branch.view()?.place(&path.0).map_err(about(path))
}

fn place_of_new(branch: &Engine, path: &ImagePath) -> daxfs_core::Result<Place> {
    branch.view()?.place_of_new(&path.0).map_err(about(path))
}

fn place_of_old(branch: &Engine, path: &ImagePath) -> daxfs_core::Result<Place> {
    branch.view()?.place_of_old(&path.0).map_err(about(path))
}

fn inode(branch: &Engine, path: &ImagePath, links: Links) -> daxfs_core::Result<Inode> {
    branch.view()?.resolve(&path.0, links)
}

#[pymethods]
impl Branch {
    #[new]
    #[pyo3(signature = (image, name, /, *, parent=None, writable=true))]
    fn new(
        py: Python<'_>,
        image: &Bound<'_, Image>,
        name: &str,
        parent: Option<&str>,
        writable: bool,
    ) -> Result<PyClassInitializer<Self>> {
        let session = image.get().session()?;
        let branch = py.detach(|| match parent {
            Some(parent) => session.create(name, parent),
            None => session.open_branch(name, if writable { Access::Write } else { Access::Read }),
        })?;
        let tree = Tree::new(Source::Live(branch));
        Ok(PyClassInitializer::from(tree).add_subclass(Self { name: name.to_owned() }))
    }

    /// Closes the branch, which others can write then; what was done stays.
    fn close(slf: &Bound<'_, Self>) -> Result<()> {
        // It stays open if it cannot be let go.
        if let Ok(Source::Live(branch)) = slf.as_super().get().source() {
            slf.py().detach(|| branch.release())?;
        }
        slf.as_super().get().take();
        Ok(())
    }

    /// Whether the branch was closed.
    #[getter]
    fn closed(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().source().is_err()
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Its identity.
    #[getter]
    fn id(slf: &Bound<'_, Self>) -> Result<u64> {
        Ok(engine(slf)?.id())
    }

    /// Whether it was opened for writing.
    #[getter]
    fn writable(slf: &Bound<'_, Self>) -> Result<bool> {
        Ok(engine(slf)?.is_writable())
    }

    /// Makes everything done so far durable.
    fn sync(slf: &Bound<'_, Self>) -> Result<()> {
        let branch = engine(slf)?;
        Ok(slf.py().detach(|| branch.sync())?)
    }

    /// Makes the branch main.
    fn commit(slf: &Bound<'_, Self>) -> Result<()> {
        let branch = engine(slf)?;
        Ok(slf.py().detach(|| branch.commit())?)
    }

    /// Ends the branch and drops its changes.
    fn abort(slf: &Bound<'_, Self>) -> Result<()> {
        let branch = engine(slf)?;
        Ok(slf.py().detach(|| branch.abort())?)
    }

    /// Lets others write; the next change takes the branch again.
    fn release(slf: &Bound<'_, Self>) -> Result<()> {
        let branch = engine(slf)?;
        Ok(slf.py().detach(|| branch.release())?)
    }

    /// Makes a file, directory, device, FIFO or socket.
    #[pyo3(signature = (path, mode, uid, gid, rdev=0, /))]
    fn make(
        slf: &Bound<'_, Self>,
        path: ImagePath,
        mode: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
    ) -> Result<()> {
        let branch = engine(slf)?;
        if path.0.iter().all(|byte| *byte == b'/') {
            return Err(Error::FileExists { path: b"/".into() }.into());
        }
        slf.py().detach(|| {
            let place = if mode & mode::TYPE == mode::DIRECTORY { place } else { place_of_new };
            let Place { directory, name } = place(&branch, &path)?;
            let new = NewInode::made_in(&directory, mode, uid, gid, rdev);
            branch.mknod(directory.ino, &name, &new).map(drop).map_err(about(&path))
        })?;
        Ok(())
    }

    /// Makes a symbolic link.
    #[pyo3(signature = (target, path, uid, gid, /))]
    fn make_symlink(
        slf: &Bound<'_, Self>,
        target: ImagePath,
        path: ImagePath,
        uid: u32,
        gid: u32,
    ) -> Result<()> {
        let branch = engine(slf)?;
        slf.py().detach(|| {
            let Place { directory, name } = place_of_new(&branch, &path)?;
            let gid = NewInode::made_in(&directory, mode::SYMLINK, uid, gid, 0).gid;
            let made = branch.symlink(directory.ino, &name, &target.0, uid, gid);
            made.map(drop).map_err(about(&path))
        })?;
        Ok(())
    }

    /// Gives a file one more name.
    #[pyo3(signature = (source, path, /, *, follow_symlinks=true))]
    fn link(
        slf: &Bound<'_, Self>,
        source: ImagePath,
        path: ImagePath,
        follow_symlinks: bool,
    ) -> Result<()> {
        let branch = engine(slf)?;
        slf.py().detach(|| {
            let inode = inode(&branch, &source, links(follow_symlinks))?;
            let Place { directory, name } = place_of_new(&branch, &path)?;
            branch.link(inode.ino, directory.ino, &name).map(drop).map_err(about(&path))
        })?;
        Ok(())
    }

    /// A part of a file to be written to in place.
    #[pyo3(signature = (path, offset, length, /))]
    fn map_file<'py>(
        slf: &Bound<'py, Self>,
        path: ImagePath,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Bound<'py, PyMemoryView>> {
        let branch = engine(slf)?;
        let mapping = slf.py().detach(|| -> Result<_> {
            let inode = inode(&branch, &path, Links::Follow)?;
            expect_file(&inode, &path)?;
            let length = length.unwrap_or(inode.size.saturating_sub(offset));
            let empty = length == 0 && offset <= inode.size;
            Ok((!empty).then(|| branch.map(inode.ino, offset, length)).transpose()?)
        })?;
        let buffer = Bound::new(slf.py(), Buffer::mapped(mapping))?;
        Ok(PyMemoryView::from(buffer.as_any())?)
    }

    /// Removes a name that is not a directory's.
    #[pyo3(signature = (path, /))]
    fn unlink(slf: &Bound<'_, Self>, path: ImagePath) -> Result<()> {
        let branch = engine(slf)?;
        slf.py().detach(|| {
            let Place { directory, name } = place_of_old(&branch, &path)?;
            branch.unlink(directory.ino, &name).map_err(about(&path))
        })?;
        Ok(())
    }

    /// Removes an empty directory.
    #[pyo3(signature = (path, /))]
    fn rmdir(slf: &Bound<'_, Self>, path: ImagePath) -> Result<()> {
        let branch = engine(slf)?;
        slf.py().detach(|| {
            let Place { directory, name } = place(&branch, &path)?;
            branch.rmdir(directory.ino, &name).map_err(about(&path))
        })?;
        Ok(())
    }

    /// Moves a name.
    #[pyo3(signature = (source, target, how="replace", /))]
    fn move_name(
        slf: &Bound<'_, Self>,
        source: ImagePath,
        target: ImagePath,
        how: &str,
    ) -> Result<()> {
        let branch = engine(slf)?;
        let how = match how {
            "replace" => Rename::Replace,
            "noreplace" => Rename::NoReplace,
            "exchange" => Rename::Exchange,
            _ => return Err(Error::invalid(format!("{how:?} is no way to rename")).into()),
        };
        slf.py().detach(|| {
            let old = place_of_old(&branch, &source)?;
            let there = if how == Rename::Exchange { place_of_old } else { place };
            let new = there(&branch, &target)?;
            if target.0.ends_with(b"/") {
                let found = branch.view()?.lookup(&old.directory, &old.name)?;
                if found.is_some_and(|found| !found.is_dir()) {
                    return Err(Error::NotDirectory { path: target.0 });
                }
            }
            let (from, to) = (old.directory.ino, new.directory.ino);
            branch.rename(from, &old.name, to, &new.name, how).map_err(|error| match error {
                // Which of the two is not there, the name alone may not tell.
                Error::NotFound { path } if path == old.name => {
                    about(&source)(Error::NotFound { path })
                }
                error => about(&target)(error),
            })
        })?;
        Ok(())
    }

    /// Changes attributes; what is none stays.
    #[pyo3(signature = (
        path, /, *, mode=None, uid=None, gid=None, size=None, atime_ns=None, mtime_ns=None,
        follow_symlinks=true
    ))]
    fn set_attributes(
        slf: &Bound<'_, Self>,
        path: ImagePath,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime_ns: Option<i64>,
        mtime_ns: Option<i64>,
        follow_symlinks: bool,
    ) -> Result<()> {
        let branch = engine(slf)?;
        let attributes = SetAttr { mode, uid, gid, size, atime: atime_ns, mtime: mtime_ns };
        let found = inode(&branch, &path, links(follow_symlinks))?;
        if size.is_some() {
            expect_file(&found, &path)?;
        }
        slf.py().detach(|| branch.set_attr(found.ino, &attributes))?;
        Ok(())
    }

    /// Sets an extended attribute.
    #[pyo3(signature = (path, name, value, how="either", /, *, follow_symlinks=true))]
    fn set_xattr(
        slf: &Bound<'_, Self>,
        path: ImagePath,
        name: ImagePath,
        value: &Bound<'_, PyAny>,
        how: &str,
        follow_symlinks: bool,
    ) -> Result<()> {
        let branch = engine(slf)?;
        let how = match how {
            "either" => XattrMode::Either,
            "create" => XattrMode::Create,
            "replace" => XattrMode::Replace,
            _ => return Err(Error::invalid(format!("{how:?} is no way to set one")).into()),
        };
        let found = inode(&branch, &path, links(follow_symlinks))?;
        let set = |value: &[u8]| branch.set_xattr(found.ino, &name.0, value, how);
        Ok(buffer::lend(slf.py(), value, set)?.map_err(about(&path))?)
    }

    /// Removes an extended attribute.
    #[pyo3(signature = (path, name, /, *, follow_symlinks=true))]
    fn remove_xattr(
        slf: &Bound<'_, Self>,
        path: ImagePath,
        name: ImagePath,
        follow_symlinks: bool,
    ) -> Result<()> {
        let branch = engine(slf)?;
        let found = inode(&branch, &path, links(follow_symlinks))?;
        let remove = || branch.remove_xattr(found.ino, &name.0).map_err(about(&path));
        Ok(slf.py().detach(remove)?)
    }

    /// Gives holes of a range blocks; a file grows to its end unless it is to keep its size.
    #[pyo3(signature = (path, offset, length, /, *, keep_size=false))]
    fn allocate(
        slf: &Bound<'_, Self>,
        path: ImagePath,
        offset: u64,
        length: u64,
        keep_size: bool,
    ) -> Result<()> {
        let branch = engine(slf)?;
        let found = inode(&branch, &path, Links::Follow)?;
        expect_file(&found, &path)?;
        Ok(slf.py().detach(|| branch.allocate(found.ino, offset, length, keep_size))?)
    }

    /// Makes a range of a file a hole.
    #[pyo3(signature = (path, offset, length, /))]
    fn punch_hole(slf: &Bound<'_, Self>, path: ImagePath, offset: u64, length: u64) -> Result<()> {
        let branch = engine(slf)?;
        let found = inode(&branch, &path, Links::Follow)?;
        expect_file(&found, &path)?;
        Ok(slf.py().detach(|| branch.punch_hole(found.ino, offset, length))?)
    }

    /// Opens a file for writing, which is made if need be, or must be new.
    #[pyo3(signature = (path, mode, uid, gid, /, *, create=true, exclusive=false, truncate=false))]
    fn open_for_writing(
        slf: &Bound<'_, Self>,
        path: ImagePath,
        mode: u32,
        uid: u32,
        gid: u32,
        create: bool,
        exclusive: bool,
        truncate: bool,
    ) -> Result<File> {
        let branch = engine(slf)?;
        if !branch.is_writable() {
            let why = "it was opened for reading; open it for writing".into();
            return Err(Error::ReadOnly { name: branch.name().into(), why }.into());
        }
        if create && path.0.ends_with(b"/") {
            return Err(Error::IsDirectory { path: path.0 }.into());
        }
        // A link has the name, wherever it leads; otherwise one that leads to nothing yet is
        // followed to make something new.
        let links = if exclusive { Links::Keep } else { Links::Follow };
        let found = loop {
            let view = branch.view()?;
            match view.resolve(&path.0, links) {
                Ok(_) if exclusive => return Err(Error::FileExists { path: path.0 }.into()),
                Ok(found) => break found,
                Err(Error::NotFound { .. }) if create => {}
                Err(error) => return Err(error.into()),
            }
            let place = if exclusive { view.place(&path.0) } else { view.place_of_file(&path.0) };
            let place = place.map_err(about(&path))?;
            let new = NewInode::made_in(&place.directory, mode::REGULAR | mode, uid, gid, 0);
            drop(view);
            let (directory, name) = (place.directory.ino, place.name);
            match slf.py().detach(|| branch.mknod(directory, &name, &new)) {
                // Another thread was faster; the file is there now.
                Err(Error::FileExists { .. }) if !exclusive => {}
                made => return Ok(File::live(branch.clone(), made.map_err(about(&path))?.ino)),
            }
        };
        expect_file(&found, &path)?;
        if truncate && found.size > 0 {
            let attributes = SetAttr { size: Some(0), ..SetAttr::default() };
            slf.py().detach(|| branch.set_attr(found.ino, &attributes))?;
        }
        Ok(File::live(branch, found.ino))
    }
}
