//! Descriptors that clients pass to the program.
use super::failed;
use crate::control::Control;
use api::*;
use rt::fdset;

impl Control {
    /// The descriptor that came with a command.
    fn descriptor(&self) -> Result<std::os::fd::OwnedFd, QmpError> {
        let missing = || QmpError::generic("No file descriptor supplied via SCM_RIGHTS");
        self.descriptors().next().ok_or_else(missing)
    }
}

impl Control {
    /// Adds a descriptor that the program has inherited to a set.
    pub fn add_inherited(&self, fd: i32, set: i64, opaque: Option<String>) -> Result<(), QmpError> {
        let fd = rt::handed::take(fd).map_err(failed)?;
        fdset::add(Some(set), fd, opaque).map_err(failed)?;
        Ok(())
    }
}

impl DescriptorsCommands for Control {
    async fn getfd(&self, arguments: GetfdArguments) -> Result<(), QmpError> {
        let fd = self.descriptor()?;
        if arguments.fdname.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(QmpError::generic("Parameter 'fdname' expects a name not starting with a digit"));
        }
        if !self.descriptors().keep(arguments.fdname, fd) {
            return Err(QmpError::generic("too many descriptors have a name; use or close some of them"));
        }
        Ok(())
    }

    async fn closefd(&self, arguments: ClosefdArguments) -> Result<(), QmpError> {
        let name = arguments.fdname;
        let closed = self.descriptors().named(&name).map(drop);
        closed.ok_or_else(|| QmpError::generic(format!("File descriptor named '{name}' not found")))
    }

    async fn add_fd(&self, arguments: AddFdArguments) -> Result<AddfdInfo, QmpError> {
        let fd = self.descriptor()?;
        let (fdset_id, fd) = fdset::add(arguments.fdset_id, fd, arguments.opaque).map_err(failed)?;
        Ok(AddfdInfo { fdset_id, fd: fd.into() })
    }

    async fn remove_fd(&self, arguments: RemoveFdArguments) -> Result<(), QmpError> {
        let RemoveFdArguments { fdset_id, fd } = arguments;
        let removed = match fd.map(i32::try_from) {
            None => fdset::remove(fdset_id, None),
            Some(Ok(fd)) => fdset::remove(fdset_id, Some(fd)),
            Some(Err(_)) => false,
        };
        if removed {
            return Ok(());
        }
        let fd = fd.map(|fd| format!(", fd:{fd}")).unwrap_or_default();
        Err(QmpError::generic(format!("File descriptor named 'fdset-id:{fdset_id}{fd}' not found")))
    }

    async fn query_fdsets(&self) -> Result<Vec<FdsetInfo>, QmpError> {
        let member = |(fd, opaque): (i32, Option<String>)| FdsetFdInfo { fd: fd.into(), opaque };
        let set = |(fdset_id, fds): (i64, Vec<_>)| FdsetInfo {
            fdset_id,
            fds: fds.into_iter().map(member).collect(),
        };
        // From the highest number down, as QEMU lists them.
        Ok(fdset::list().into_iter().rev().map(set).collect())
    }
}
