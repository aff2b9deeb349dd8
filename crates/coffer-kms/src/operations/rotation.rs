//! Rotation: new material encrypts, the old goes on decrypting.

use super::{
    Perform,
    keys::{MILLIS_PER_DAY, expiration_model, new_material},
    seconds,
};
use crate::{
    KmsException,
    api::{
        DisableKeyRotationRequest, EnableKeyRotationRequest, GetKeyRotationStatusRequest,
        GetKeyRotationStatusResponse, KeyIdResponse, KeyState, ListKeyRotationsRequest,
        ListKeyRotationsResponse, RotateKeyOnDemandRequest, RotationsListEntry,
    },
    call::Call,
    paging::Page,
    state::{Key, Material, Origin, Rotated, Rotation},
    validation::Validation,
};
use std::sync::Arc;

type Result<T> = std::result::Result<T, KmsException>;

const PERIOD_DAYS_DEFAULT: i64 = 365;
const ON_DEMAND_MAX: u32 = 25;

/// Refuses keys whose material this KMS does not make.
fn check_rotates(key: &Key) -> Result<()> {
    let message = match key.origin {
        Origin::External => {
            format!("{} origin is EXTERNAL which is not valid for this operation.", key.arn)
        }
        Origin::AwsKms if !key.is_symmetric() => {
            format!("{} key spec is {} which is not valid for this operation.", key.arn, key.spec)
        }
        Origin::AwsKms => return Ok(()),
    };
    Err(KmsException::new("UnsupportedOperationException", message))
}

impl Perform for EnableKeyRotationRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .range("rotationPeriodInDays", self.rotation_period_in_days, 90, 2560)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        check_rotates(&key)?;
        call.check_usable(&key)?;
        let days = self.rotation_period_in_days.unwrap_or(PERIOD_DAYS_DEFAULT);
        let period_days = u32::try_from(days).unwrap_or_default();
        let next_at_millis = call.now_millis.saturating_add(days.saturating_mul(MILLIS_PER_DAY));
        call.change_key(&key, |key| {
            let is_same = |rotation: &Rotation| rotation.period_days == period_days;
            if !key.rotation.as_ref().is_some_and(is_same) {
                key.rotation = Some(Rotation { period_days, next_at_millis });
            }
            Ok(())
        })
    }
}

impl Perform for DisableKeyRotationRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let key = call.authorized(&self.key_id)?;
        check_rotates(&key)?;
        call.check_usable(&key)?;
        call.change_key(&key, |key| {
            key.rotation = None;
            Ok(())
        })
    }
}

impl Perform for GetKeyRotationStatusRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<GetKeyRotationStatusResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let key = call.authorized(&self.key_id)?;
        check_rotates(&key)?;
        // a key that is to be deleted is not rotated
        let is_kept = key.state(call.now_millis) != KeyState::PendingDeletion;
        let rotation = key.rotation.filter(|_| is_kept);
        Ok(GetKeyRotationStatusResponse {
            key_id: key.arn.clone(),
            key_rotation_enabled: rotation.is_some(),
            rotation_period_in_days: rotation.map(|rotation| rotation.period_days),
            next_rotation_date: rotation.map(|rotation| seconds(rotation.next_at_millis)),
        })
    }
}

impl Perform for RotateKeyOnDemandRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<KeyIdResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let key = call.authorized(&self.key_id)?;
        check_rotates(&key)?;
        call.check_usable(&key)?;
        let now = call.now_millis;
        call.change_key(&key, |key| {
            if key.on_demand_rotations >= ON_DEMAND_MAX {
                return Err(KmsException::limit(format!(
                    "{} was rotated on demand {ON_DEMAND_MAX} times.",
                    key.arn
                )));
            }
            key.on_demand_rotations += 1;
            rotate(key, now, true)
        })?;
        Ok(KeyIdResponse { key_id: key.arn.clone() })
    }
}

/// Puts fresh material in force.
pub(crate) fn rotate(key: &mut Key, now_millis: i64, on_demand: bool) -> Result<()> {
    let rotated = Some(Rotated { at_millis: now_millis, on_demand });
    key.materials.push(Material { rotated, ..new_material()? });
    Ok(())
}

/// The automatic rotation of a key whose date has come. A date that was missed, because the key was
/// disabled or nothing ran, is made up for once.
pub(crate) fn rotate_due(key: &Arc<Key>, now_millis: i64) -> Option<Result<Key>> {
    let rotation = key.rotation.filter(|rotation| rotation.next_at_millis <= now_millis)?;
    if key.state(now_millis) != KeyState::Enabled {
        return None;
    }
    let mut next = Key::clone(key);
    let period = i64::from(rotation.period_days).saturating_mul(MILLIS_PER_DAY);
    next.rotation =
        Some(Rotation { next_at_millis: now_millis.saturating_add(period), ..rotation });
    Some(rotate(&mut next, now_millis, false).map(|()| next))
}

impl Perform for ListKeyRotationsRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListKeyRotationsResponse> {
        const INCLUDE: [&str; 2] = ["ALL_KEY_MATERIAL", "ROTATIONS_ONLY"];
        let include = self.include_key_material.as_deref();
        Validation::default()
            .key_id("keyId", &self.key_id)
            .one_of("includeKeyMaterial", include, &INCLUDE)
            .finish()?;
        let page = Page::parse(self.limit, self.marker.as_deref(), 100, 1000)?;
        let key = call.authorized(&self.key_id)?;
        if !key.is_symmetric() {
            check_rotates(&key)?;
        }
        let includes_all = include == Some("ALL_KEY_MATERIAL");
        let entries = key.materials.iter().enumerate();
        let entries = entries.filter(|(_, material)| includes_all || material.rotated.is_some());
        // in the order of the rotations, which ids are not
        let entries: Vec<_> = entries.map(|(at, it)| (format!("{at:08}"), at, it)).collect();
        let (entries, next_marker) = page.cut(entries, |(position, ..)| position);
        let entry = |(_, at, material): (String, usize, &Material)| {
            let is_current = at + 1 == key.materials.len();
            entry(&key, material, is_current, call.now_millis)
        };
        Ok(ListKeyRotationsResponse {
            rotations: entries.into_iter().map(entry).collect(),
            truncated: next_marker.is_some(),
            next_marker,
        })
    }
}

fn entry(key: &Key, material: &Material, is_current: bool, now_millis: i64) -> RotationsListEntry {
    let is_imported = key.origin == Origin::External;
    let import_state = if material.is_there(now_millis) { "IMPORTED" } else { "PENDING_IMPORT" };
    let kind = |rotated: Rotated| if rotated.on_demand { "ON_DEMAND" } else { "AUTOMATIC" };
    RotationsListEntry {
        key_id: key.arn.clone(),
        key_material_id: material.id.clone(),
        key_material_state: Some(if is_current { "CURRENT" } else { "NON_CURRENT" }.to_owned()),
        import_state: is_imported.then(|| import_state.to_owned()),
        expiration_model: is_imported.then(|| expiration_model(material).to_owned()),
        valid_to: material.valid_to_millis.map(seconds),
        rotation_date: material.rotated.map(|rotated| seconds(rotated.at_millis)),
        rotation_type: material.rotated.map(|rotated| kind(rotated).to_owned()),
    }
}
