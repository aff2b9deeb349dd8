//! GRANT, REVOKE and LIST.

use crate::ast::{
    ChangePermissions, ListPermissions, Permission, Permissions, Resource, StatementKind,
};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn grant(&mut self) -> Parsed<StatementKind> {
        self.advance();
        if !self.at_permissions() {
            let role = self.role()?;
            self.expect(Keyword::To)?;
            return Ok(StatementKind::GrantRole { role, grantee: self.role()? });
        }
        let (permissions, resource) = self.permissions_on()?;
        self.expect(Keyword::To)?;
        Ok(StatementKind::GrantPermissions(ChangePermissions {
            permissions,
            resource,
            role: self.role()?,
        }))
    }

    pub(super) fn revoke(&mut self) -> Parsed<StatementKind> {
        self.advance();
        if !self.at_permissions() {
            let role = self.role()?;
            self.expect(Keyword::From)?;
            return Ok(StatementKind::RevokeRole { role, revokee: self.role()? });
        }
        let (permissions, resource) = self.permissions_on()?;
        self.expect(Keyword::From)?;
        Ok(StatementKind::RevokePermissions(ChangePermissions {
            permissions,
            resource,
            role: self.role()?,
        }))
    }

    pub(super) fn list_statement(&mut self) -> Parsed<StatementKind> {
        match self.peek(1) {
            Kind::Keyword(Keyword::Users) => {
                self.advance();
                self.advance();
                return Ok(StatementKind::ListUsers);
            }
            Kind::Keyword(Keyword::SuperUsers) => {
                self.advance();
                self.advance();
                return Ok(StatementKind::ListSuperUsers);
            }
            Kind::Keyword(Keyword::Roles) => {
                self.advance();
                self.advance();
                let of = if self.accept(Keyword::Of) { Some(self.role()?) } else { None };
                return Ok(StatementKind::ListRoles {
                    of,
                    recursive: !self.accept(Keyword::NoRecursive),
                });
            }
            Kind::Keyword(keyword) if keyword == Keyword::All || permission(keyword).is_some() => {
                self.advance()
            }
            _ => return self.no_viable_ahead(1),
        }
        let permissions = self.permissions()?;
        let resource = if self.accept(Keyword::On) { Some(self.resource()?) } else { None };
        let of = if self.accept(Keyword::Of) { Some(self.role()?) } else { None };
        let recursive = !self.accept(Keyword::NoRecursive);
        Ok(StatementKind::ListPermissions(ListPermissions { permissions, resource, of, recursive }))
    }

    /// Whether permissions come next and no role: some of their words may name roles.
    fn at_permissions(&self) -> bool {
        match self.kind() {
            Kind::Keyword(keyword) if keyword == Keyword::All || permission(keyword).is_some() => {
                !matches!(self.peek(1), Kind::Keyword(Keyword::To | Keyword::From))
                    || !self.is_name(0)
            }
            _ => false,
        }
    }

    fn permissions_on(&mut self) -> Parsed<(Permissions, Resource)> {
        let permissions = self.permissions()?;
        self.expect(Keyword::On)?;
        let resource = self.resource()?;
        let none_fits = match &permissions {
            Permissions::All => false,
            Permissions::Only(list) => {
                !list.iter().any(|&permission| is_applicable(permission, &resource))
            }
        };
        if none_fits {
            return self.refuse(format!(
                "Resource type {} does not support any of the requested permissions",
                resource_kind(&resource)
            ));
        }
        Ok((permissions, resource))
    }

    fn permissions(&mut self) -> Parsed<Permissions> {
        if self.accept(Keyword::All) {
            self.accept(Keyword::Permissions);
            return Ok(Permissions::All);
        }
        let list = self.list(|parser| {
            let Kind::Keyword(keyword) = parser.kind() else {
                return parser.no_viable();
            };
            let Some(permission) = permission(keyword) else {
                return parser.no_viable();
            };
            parser.advance();
            parser.accept(Keyword::Permission);
            Ok(permission)
        })?;
        Ok(Permissions::Only(list))
    }

    fn resource(&mut self) -> Parsed<Resource> {
        let next = self.peek(1);
        match self.kind() {
            Kind::Keyword(Keyword::All)
                if matches!(next, Kind::Keyword(_)) && self.is_all_of(next) =>
            {
                self.advance();
                self.advance();
                self.all_of(next)
            }
            Kind::Keyword(Keyword::Keyspace | Keyword::Schema) => {
                self.advance();
                Ok(Resource::Keyspace(self.keyspace()?))
            }
            Kind::Keyword(Keyword::Role) if !self.ends_resource(1) => {
                self.advance();
                Ok(Resource::Role(self.role()?))
            }
            Kind::Keyword(Keyword::Function) if !self.ends_resource(1) => {
                self.advance();
                let name = self.function_name()?;
                Ok(Resource::Function { name, argument_types: self.argument_types()? })
            }
            Kind::Keyword(Keyword::Mbean) if next == Kind::String => {
                self.advance();
                Ok(Resource::Mbean(self.take_string()?))
            }
            Kind::Keyword(Keyword::Mbeans) if next == Kind::String => {
                self.advance();
                Ok(Resource::Mbeans(self.take_string()?))
            }
            Kind::Keyword(Keyword::Table | Keyword::ColumnFamily) => {
                self.advance();
                Ok(Resource::Table(self.table()?))
            }
            _ => Ok(Resource::Table(self.table()?)),
        }
    }

    /// Whether the word before `ahead` was a table's name and not the kind of a resource.
    fn ends_resource(&self, ahead: usize) -> bool {
        use Keyword::{From, NoRecursive, Of, To};
        matches!(
            self.peek(ahead),
            Kind::End | Kind::Sign(b';' | b'.') | Kind::Keyword(To | From | Of | NoRecursive)
        )
    }

    fn is_all_of(&self, kind: Kind) -> bool {
        use Keyword::{ColumnFamilies, Functions, Keyspaces, Mbeans, Roles, Tables};
        matches!(
            kind,
            Kind::Keyword(Keyspaces | Tables | ColumnFamilies | Roles | Functions | Mbeans)
        )
    }

    fn all_of(&mut self, kind: Kind) -> Parsed<Resource> {
        match kind {
            Kind::Keyword(Keyword::Keyspaces) => Ok(Resource::AllKeyspaces),
            Kind::Keyword(Keyword::Roles) => Ok(Resource::AllRoles),
            Kind::Keyword(Keyword::Mbeans) => Ok(Resource::AllMbeans),
            Kind::Keyword(Keyword::Functions) => {
                if !self.accept(Keyword::In) {
                    return Ok(Resource::AllFunctions);
                }
                self.expect(Keyword::Keyspace)?;
                Ok(Resource::FunctionsIn(self.keyspace()?))
            }
            _ => {
                self.expect_all(&[Keyword::In, Keyword::Keyspace])?;
                Ok(Resource::AllTables(self.keyspace()?))
            }
        }
    }
}

fn permission(keyword: Keyword) -> Option<Permission> {
    Some(match keyword {
        Keyword::Create => Permission::Create,
        Keyword::Alter => Permission::Alter,
        Keyword::Drop => Permission::Drop,
        Keyword::Select => Permission::Select,
        Keyword::Modify => Permission::Modify,
        Keyword::Authorize => Permission::Authorize,
        Keyword::Describe => Permission::Describe,
        Keyword::Execute => Permission::Execute,
        Keyword::Unmask => Permission::Unmask,
        Keyword::SelectMasked => Permission::SelectMasked,
        _ => return None,
    })
}

/// Cassandra's table of which permissions a resource takes.
fn is_applicable(permission: Permission, resource: &Resource) -> bool {
    use Permission::{
        Alter, Authorize, Create, Describe, Drop, Execute, Modify, Select, SelectMasked, Unmask,
    };
    match resource {
        Resource::AllKeyspaces | Resource::Keyspace(_) | Resource::AllTables(_) => {
            !matches!(permission, Execute | Describe)
        }
        Resource::Table(_) => {
            matches!(permission, Alter | Drop | Select | Modify | Authorize | Unmask | SelectMasked)
        }
        Resource::AllRoles => matches!(permission, Create | Alter | Drop | Authorize | Describe),
        Resource::Role(_) => matches!(permission, Alter | Drop | Authorize),
        Resource::AllFunctions | Resource::FunctionsIn(_) => {
            matches!(permission, Create | Alter | Drop | Authorize | Execute)
        }
        Resource::Function { .. } => matches!(permission, Alter | Drop | Authorize | Execute),
        Resource::AllMbeans | Resource::Mbean(_) | Resource::Mbeans(_) => {
            matches!(permission, Authorize | Describe | Execute | Modify | Select)
        }
    }
}

fn resource_kind(resource: &Resource) -> &'static str {
    match resource {
        Resource::AllKeyspaces
        | Resource::Keyspace(_)
        | Resource::AllTables(_)
        | Resource::Table(_) => "DataResource",
        Resource::AllRoles | Resource::Role(_) => "RoleResource",
        Resource::AllFunctions | Resource::FunctionsIn(_) | Resource::Function { .. } => {
            "FunctionResource"
        }
        Resource::AllMbeans | Resource::Mbean(_) | Resource::Mbeans(_) => "JMXResource",
    }
}
