//! Roles, users and permissions.

use std::fmt;

use super::{PropertyValue, QualifiedName, TypeName};

/// `CREATE ROLE` and `CREATE USER` (which logs in and never has a WITH on other options).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateRole {
    pub name: String,
    pub if_not_exists: bool,
    pub options: RoleOptions,
}

/// `ALTER ROLE` and `ALTER USER`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AlterRole {
    pub name: String,
    pub if_exists: bool,
    pub options: RoleOptions,
}

/// What a role may be given; `None` where the statement says nothing.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RoleOptions {
    pub password: Option<String>,
    pub hashed_password: Option<String>,
    pub generated_password: bool,
    pub superuser: Option<bool>,
    pub login: Option<bool>,
    pub options: Option<PropertyValue>,
    pub datacenters: Option<Access>,
    pub cidrs: Option<Access>,
}

/// Passwords stay out of debug output.
impl fmt::Debug for RoleOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleOptions")
            .field("password", &self.password.is_some())
            .field("hashed_password", &self.hashed_password.is_some())
            .field("generated_password", &self.generated_password)
            .field("superuser", &self.superuser)
            .field("login", &self.login)
            .field("options", &self.options)
            .field("datacenters", &self.datacenters)
            .field("cidrs", &self.cidrs)
            .finish()
    }
}

/// `ACCESS TO ..` and `ACCESS FROM ..`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// `ALL`
    All,
    /// A list of names.
    Only(Vec<String>),
}

/// The permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Permission {
    Create,
    Alter,
    Drop,
    Select,
    Modify,
    Authorize,
    Describe,
    Execute,
    Unmask,
    SelectMasked,
}

/// Which permissions a statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permissions {
    /// `ALL [PERMISSIONS]`
    All,
    /// A list.
    Only(Vec<Permission>),
}

/// `GRANT permissions ON resource TO role`, `REVOKE .. FROM role`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ChangePermissions {
    pub permissions: Permissions,
    pub resource: Resource,
    pub role: String,
}

/// `LIST permissions [ON resource] [OF role] [NORECURSIVE]`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ListPermissions {
    pub permissions: Permissions,
    pub resource: Option<Resource>,
    pub of: Option<String>,
    pub recursive: bool,
}

/// What permissions are granted on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Resource {
    AllKeyspaces,
    Keyspace(String),
    /// `ALL TABLES IN KEYSPACE k`
    AllTables(String),
    Table(QualifiedName),
    AllRoles,
    Role(String),
    AllFunctions,
    FunctionsIn(String),
    Function {
        name: QualifiedName,
        argument_types: Vec<TypeName>,
    },
    AllMbeans,
    /// `MBEAN '..'`
    Mbean(String),
    /// `MBEANS '..'`: a pattern.
    Mbeans(String),
}
