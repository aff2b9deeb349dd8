//! Which kind of file a path in a data directory is: the list of `docs/ON-DISK-FORMAT.md`.

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Tail,
    Log,
    Catalog,
    KmsStore,
    KmsJournal,
    KmsAudit,
    Audit,
    RootKey,
    Credentials,
    Lock,
    Socket,
    /// Key or manifest of a backup that is being imported, sealed by keys of another server.
    Import,
    /// A writer had not finished it, or is at it.
    Unfinished,
    /// Coffer makes no such file.
    Foreign,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Tail => "log tail",
            Self::Log => "commit log",
            Self::Catalog => "catalog",
            Self::KmsStore => "store of the embedded KMS",
            Self::KmsJournal => "journal of the embedded KMS",
            Self::KmsAudit => "audit log of the embedded KMS",
            Self::Audit => "audit log of the server",
            Self::RootKey => "root key",
            Self::Credentials => "access key of the embedded KMS's account",
            Self::Lock => "lock",
            Self::Socket => "admin socket",
            Self::Import => "object of an import",
            Self::Unfinished => "unfinished file",
            Self::Foreign => "foreign",
        }
    }

    /// The kind by the path below the data directory, with `/` between its parts.
    pub(super) fn of(path: &str) -> Self {
        if let Some(finished) = path.strip_suffix(".unpublished") {
            return Self::sealed(finished).map_or(Self::Foreign, |_| Self::Unfinished);
        }
        if let Some(finished) = path.strip_suffix(".tmp") {
            let is_of_kms = finished.starts_with("kms/") && Self::sealed(finished).is_some();
            return if is_of_kms { Self::Unfinished } else { Self::Foreign };
        }
        let is_of_import = |id: &str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if let ["import", id, "key" | "manifest"] = path.split('/').collect::<Vec<_>>().as_slice()
            && is_of_import(id)
        {
            return Self::Import;
        }
        match path {
            "root.key" | "root.key.next" | "kms/root.key" => Self::RootKey,
            "kms/credentials" => Self::Credentials,
            "LOCK" | "server.lock" => Self::Lock,
            "admin.sock" => Self::Socket,
            _ => Self::sealed(path).unwrap_or(Self::Foreign),
        }
    }

    fn sealed(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let (stem, ending) = parts.last()?.rsplit_once('.')?;
        let hex = |text: &str, length: usize| {
            text.len() == length
                && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let of_id = |id: &str, of_table: bool| if of_table { is_uuid(id) } else { hex(id, 32) };
        let digits = || !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
        let of_table = || hex(stem, 32);
        match (parts.as_slice(), ending) {
            ([place @ ("tables" | "snapshots" | "import"), id, _], "segment")
                if of_id(id, *place == "tables") && of_table() =>
            {
                Some(Self::Segment)
            }
            ([place @ ("tables" | "snapshots" | "import" | "archive"), id, _], "tail")
                if of_id(id, matches!(*place, "tables" | "archive")) && of_table() =>
            {
                Some(Self::Tail)
            }
            (["log", _], "log") if hex(stem, 16) => Some(Self::Log),
            (["catalog", _], "catalog") if hex(stem, 16) => Some(Self::Catalog),
            (["kms", _], "keys") if digits() => Some(Self::KmsStore),
            (["kms", _], "journal") if digits() => Some(Self::KmsJournal),
            (["kms", "audit", _], "audit") => Some(Self::KmsAudit),
            (["audit", _], "audit") => Some(Self::Audit),
            _ => None,
        }
    }
}

/// Whether it is how a table's id is written.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12]
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_kind_and_anything_else_is_foreign() {
        let id = "0123456789abcdef0123456789abcdef";
        let table = "01234567-89ab-cdef-0123-456789abcdef";
        for (path, kind) in [
            (format!("tables/{table}/{id}.segment"), Kind::Segment),
            (format!("snapshots/{id}/{id}.segment"), Kind::Segment),
            (format!("archive/{table}/{id}.tail"), Kind::Tail),
            (format!("import/{id}/{id}.tail"), Kind::Tail),
            ("log/0000000000000001.log".into(), Kind::Log),
            ("catalog/000000000000000a.catalog".into(), Kind::Catalog),
            ("kms/00000000000000000001.keys".into(), Kind::KmsStore),
            ("kms/00000000000000000001.keys.tmp".into(), Kind::Unfinished),
            (format!("tables/{table}/{id}.segment.unpublished"), Kind::Unfinished),
            ("kms/audit/00000001.audit".into(), Kind::KmsAudit),
            ("audit/00000001.audit".into(), Kind::Audit),
            (format!("import/{id}/manifest"), Kind::Import),
            ("root.key.next".into(), Kind::RootKey),
            (format!("archive/{table}/{id}.segment"), Kind::Foreign),
            (format!("tables/{id}/{id}.segment"), Kind::Foreign),
            (format!("tables/{table}/x.segment"), Kind::Foreign),
            (format!("tables/{id}.segment"), Kind::Foreign),
            ("rows.csv".into(), Kind::Foreign),
            ("rows.csv.unpublished".into(), Kind::Foreign),
            ("log/1.log".into(), Kind::Foreign),
            ("".into(), Kind::Foreign),
        ] {
            assert_eq!(Kind::of(&path), kind, "{path}");
        }
    }
}
