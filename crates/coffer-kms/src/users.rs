//! Users and their access keys. Managing them is the operator's right, not an operation of the API.

use crate::{
    Kms, KmsException, Principal,
    state::{Change, IdentityPolicy, State, User},
};
use coffer_crypto::fill_random;
use std::sync::Arc;
use zeroize::Zeroizing;

type Result<T> = std::result::Result<T, KmsException>;

/// The name that the account itself stands under.
pub(crate) const ROOT: &str = "root";
const NAME_LEN_MAX: usize = 64;
const USERS_MAX: usize = 5000;
const ACCESS_KEY_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An access key with its secret. No `Debug`.
#[derive(Clone)]
pub struct Credentials {
    /// Whose it is.
    pub principal: Principal,
    /// ARN of the principal.
    pub arn: String,
    /// Public part.
    pub access_key_id: String,
    /// Secret part.
    pub secret_access_key: Zeroizing<String>,
    /// A disabled user's key signs nothing.
    pub enabled: bool,
}

impl Credentials {
    /// One section of an AWS credentials file.
    #[must_use]
    pub fn to_section(&self, profile: &str, region: &str) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "# {}\n[{profile}]\naws_access_key_id = {}\naws_secret_access_key = {}\nregion = \
             {region}\n",
            self.arn, self.access_key_id, *self.secret_access_key
        ))
    }
}

/// A user, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDescription {
    /// Its name.
    pub name: String,
    /// `arn:aws:iam::ACCOUNT:user/NAME`.
    pub arn: String,
    /// Public part of its access key.
    pub access_key_id: String,
    /// Whether its access key is accepted.
    pub enabled: bool,
    /// Milliseconds since 1970.
    pub created_at_millis: i64,
    /// Whether IAM gives it rights of its own.
    pub has_policy: bool,
}

impl Kms {
    /// Makes a user with an access key. `policy` is an IAM identity policy; without one the user has
    /// what key policies and grants give.
    ///
    /// # Errors
    /// `ValidationException` for the name, `EntityAlreadyExistsException`,
    /// `MalformedPolicyDocumentException`, `LimitExceededException`, `KMSInternalException`.
    pub fn create_user(&self, name: &str, policy: Option<&str>) -> Result<Credentials> {
        check_name(name)?;
        let policy = policy.map(|text| IdentityPolicy::try_from(text.to_owned())).transpose();
        let policy = policy.map_err(|error| {
            KmsException::new("MalformedPolicyDocumentException", error.to_string())
        })?;
        let now = self.clock.key_wall_millis();
        let user = User { policy, ..new_user(name, false, now)? };
        let credentials = credentials(&user, &self.account());
        self.change_users(|state| {
            if state.users.contains_key(name) {
                let message = format!("User with name {name} already exists.");
                return Err(KmsException::new("EntityAlreadyExistsException", message));
            }
            if state.users.len() > USERS_MAX {
                return Err(KmsException::limit(format!("There are {USERS_MAX} users.")));
            }
            Ok(Change::User(Arc::new(user)))
        })?;
        Ok(credentials)
    }

    /// All users, by name.
    #[must_use]
    pub fn list_users(&self) -> Vec<UserDescription> {
        let state = self.state.read();
        let users = state.users.values().filter(|user| !user.is_root);
        let describe = |user: &Arc<User>| UserDescription {
            name: user.name.clone(),
            arn: user.principal().arn(&state.account),
            access_key_id: user.access_key_id.clone(),
            enabled: user.enabled,
            created_at_millis: user.created_at_millis,
            has_policy: user.policy.is_some(),
        };
        users.map(describe).collect()
    }

    /// Accepts the user's access key, or does not.
    ///
    /// # Errors
    /// `NoSuchEntityException`, `KMSInternalException`.
    pub fn set_user_enabled(&self, name: &str, enabled: bool) -> Result<()> {
        self.change_users(|state| {
            let user = find(state, name)?;
            Ok(Change::User(Arc::new(User { enabled, ..User::clone(user) })))
        })
    }

    /// Deletes a user and its access key. Grants made to it stay, as in AWS.
    ///
    /// # Errors
    /// As [`Self::set_user_enabled`].
    pub fn delete_user(&self, name: &str) -> Result<()> {
        self.change_users(|state| {
            find(state, name)?;
            Ok(Change::UserDeleted(name.to_owned()))
        })
    }

    /// Whose access key it is, and its secret, to verify a signature with.
    #[must_use]
    pub fn secret_key(&self, access_key_id: &str) -> Option<Credentials> {
        let state = self.state.read();
        state.user_of_access_key(access_key_id).map(|user| credentials(user, &state.account))
    }

    fn change_users(&self, compute: impl FnOnce(&State) -> Result<Change>) -> Result<()> {
        let sequence = {
            let mut state = self.state.write();
            let change = compute(&state)?;
            state.change(vec![change])
        };
        self.commit(sequence, false)
    }
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Arc<User>> {
    state.users.get(name).filter(|user| !user.is_root).ok_or_else(|| {
        let message = format!("The user with name {name} cannot be found.");
        KmsException::new("NoSuchEntityException", message)
    })
}

fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let len = name.chars().count();
    if (1..=NAME_LEN_MAX).contains(&len) && name.chars().all(is_good) && name != ROOT {
        return Ok(());
    }
    let message = "a user's name is 1 to 64 letters, digits or _+=,.@- and not root";
    Err(KmsException::validation(message))
}

pub(crate) fn credentials(user: &User, account: &str) -> Credentials {
    let principal = user.principal();
    Credentials {
        arn: principal.arn(account),
        principal,
        access_key_id: user.access_key_id.clone(),
        secret_access_key: user.secret_access_key.clone(),
        enabled: user.enabled,
    }
}

/// Somebody with a fresh access key.
pub(crate) fn new_user(name: &str, is_root: bool, now_millis: i64) -> Result<User> {
    let access_key_id = format!("AKIA{}", &*random_text::<16>(ACCESS_KEY_LETTERS)?);
    Ok(User {
        name: name.to_owned(),
        is_root,
        enabled: true,
        created_at_millis: now_millis,
        access_key_id,
        secret_access_key: random_text::<40>(SECRET_LETTERS)?,
        policy: None,
    })
}

/// `N` random letters; the number of letters is a power of two, so each is as likely.
fn random_text<const N: usize>(letters: &[u8]) -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; N]);
    fill_random(bytes.as_mut_slice()).map_err(|_| KmsException::internal("no randomness"))?;
    let mut text = Zeroizing::new(String::with_capacity(N));
    for byte in bytes.iter() {
        let letter = letters.get(usize::from(*byte) % letters.len()).copied().unwrap_or(b'A');
        text.push(char::from(letter));
    }
    Ok(text)
}
