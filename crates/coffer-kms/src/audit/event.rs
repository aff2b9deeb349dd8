//! One event in the shape of CloudTrail, before the log adds time, id and chain.

use crate::TlsDetails;
use serde_json::{Map, Value, json};

/// Version of the shape of records.
const EVENT_VERSION: &str = "1.11";

/// An event to record. Members that are `Null` stand as `null` or are left out, as in CloudTrail.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub(super) source: &'static str,
    pub(super) name: String,
    pub(super) user_identity: Value,
    pub(super) source_ip_address: String,
    pub(super) user_agent: String,
    pub(super) request_parameters: Value,
    pub(super) response_elements: Value,
    pub(super) additional_event_data: Map<String, Value>,
    pub(super) service_event_details: Value,
    pub(super) error: Option<(String, String)>,
    pub(super) is_read_only: bool,
    /// Type and ARN.
    pub(super) resources: Vec<(&'static str, String)>,
    pub(super) tls: Option<TlsDetails>,
    pub(super) request_id: Option<String>,
    pub(super) api_version: Option<&'static str>,
}

/// What the log knows and the event does not.
pub(super) struct Stamp<'a> {
    pub(super) time: &'a str,
    pub(super) event_id: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    /// Of the record before; zeros for the first of all.
    pub(super) previous_sha256: &'a str,
}

impl AuditEvent {
    /// The operation or statement.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the event changes nothing, so that its record need not be on disk at once.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Whether the service did it of its own accord: nobody called.
    fn is_of_service(&self) -> bool {
        self.request_id.is_none() && !self.service_event_details.is_null()
    }

    /// The record as one line of JSON.
    pub(super) fn to_json(&self, stamp: &Stamp<'_>) -> Vec<u8> {
        let resources: Vec<Value> = self
            .resources
            .iter()
            .map(|(kind, arn)| json!({"accountId": stamp.account, "type": kind, "ARN": arn}))
            .collect();
        let mut record = json!({
            "eventVersion": EVENT_VERSION,
            "userIdentity": self.user_identity,
            "eventTime": stamp.time,
            "eventSource": self.source,
            "eventName": self.name,
            "awsRegion": stamp.region,
            "sourceIPAddress": self.source_ip_address,
            "userAgent": self.user_agent,
            "requestParameters": self.request_parameters,
            "responseElements": self.response_elements,
            "eventID": stamp.event_id,
            "readOnly": self.is_read_only,
            "eventType": if self.is_of_service() { "AwsServiceEvent" } else { "AwsApiCall" },
            "managementEvent": true,
            "eventCategory": "Management",
            "recipientAccountId": stamp.account,
            "previousRecordSha256": stamp.previous_sha256,
        });
        let mut add = |name: &str, value: Value| {
            if let Some(members) = record.as_object_mut() {
                members.insert(name.to_owned(), value);
            }
        };
        if let Some((code, message)) = &self.error {
            add("errorCode", json!(code));
            add("errorMessage", json!(message));
        }
        if !self.additional_event_data.is_empty() {
            add("additionalEventData", Value::Object(self.additional_event_data.clone()));
        }
        if let Some(details) = self.service_event_details.as_object().filter(|all| !all.is_empty())
        {
            add("serviceEventDetails", json!(details));
        }
        if !resources.is_empty() {
            add("resources", Value::Array(resources));
        }
        if let Some(id) = &self.request_id {
            add("requestID", json!(id));
        }
        if let Some(version) = self.api_version {
            add("apiVersion", json!(version));
        }
        if let Some(tls) = &self.tls {
            add(
                "tlsDetails",
                json!({
                    "tlsVersion": tls.version,
                    "cipherSuite": tls.cipher_suite,
                    "clientProvidedHostHeader": tls.host,
                }),
            );
        }
        record.to_string().into_bytes()
    }
}

/// What the KMS does of its own accord: `DeleteKey`, `RotateKey`, `DeleteImportedKeyMaterial` at its
/// expiry.
#[derive(Clone, Debug)]
pub struct ServiceEvent<'a> {
    /// As `RotateKey`.
    pub name: &'a str,
    /// The account of the key.
    pub account: &'a str,
    /// The key.
    pub key_arn: &'a str,
    /// `serviceEventDetails`, as `rotationType`.
    pub details: Map<String, Value>,
}

impl From<ServiceEvent<'_>> for AuditEvent {
    fn from(event: ServiceEvent<'_>) -> Self {
        Self {
            source: "kms.amazonaws.com",
            name: event.name.to_owned(),
            user_identity: json!({"accountId": event.account, "invokedBy": "AWS Internal"}),
            source_ip_address: "AWS Internal".to_owned(),
            user_agent: "AWS Internal".to_owned(),
            request_parameters: Value::Null,
            response_elements: match event.name {
                "DeleteKey" => json!({"keyId": event.key_arn}),
                _ => Value::Null,
            },
            additional_event_data: Map::new(),
            service_event_details: Value::Object(event.details),
            error: None,
            is_read_only: false,
            resources: vec![("AWS::KMS::Key", event.key_arn.to_owned())],
            tls: None,
            request_id: None,
            api_version: None,
        }
    }
}

/// A statement that changes the schema, in the shape of Amazon Keyspaces.
#[derive(Clone, Debug, Default)]
pub struct DatabaseEvent<'a> {
    /// As `CreateTable`, `AlterKeyspace`.
    pub name: &'a str,
    /// Account and region of the tables' ARNs.
    pub account: &'a str,
    /// As `us-east-1`.
    pub region: &'a str,
    /// The role that sent the statement; `None` without login.
    pub user: Option<&'a str>,
    /// Address of the client; `None` for a statement of the server itself.
    pub address: Option<std::net::IpAddr>,
    /// Version of the CQL protocol of the connection.
    pub protocol_version: u8,
    /// The statement as it was sent; empty for what is no statement.
    pub raw_query: &'a str,
    /// The keyspace it names; may be empty.
    pub keyspace: &'a str,
    /// The table it names.
    pub table: Option<&'a str>,
    /// The KMS key it names.
    pub key_arn: Option<&'a str>,
    /// More `requestParameters`: what is no statement has its own.
    pub parameters: Map<String, Value>,
    /// Name and text of the error, when it failed.
    pub error: Option<(String, String)>,
    /// Of an encrypted connection.
    pub tls: Option<TlsDetails>,
}

impl From<DatabaseEvent<'_>> for AuditEvent {
    fn from(event: DatabaseEvent<'_>) -> Self {
        let mut parameters = event.parameters;
        if !event.raw_query.is_empty() {
            parameters.insert("rawQuery".to_owned(), json!(event.raw_query));
        }
        let mut arn = format!("arn:aws:cassandra:{}:{}:/", event.region, event.account);
        if !event.keyspace.is_empty() {
            arn.push_str("keyspace/");
            arn.push_str(event.keyspace);
            arn.push('/');
            parameters.insert("keyspaceName".to_owned(), json!(event.keyspace));
        }
        let mut kind = "AWS::Cassandra::Keyspace";
        if let Some(table) = event.table {
            kind = "AWS::Cassandra::Table";
            arn = format!("{arn}table/{table}");
            parameters.insert("tableName".to_owned(), json!(table));
        }
        let user_identity = match event.user {
            Some(user) => json!({
                "type": "IAMUser", "accountId": event.account, "userName": user,
                "arn": format!("arn:aws:iam::{}:user/{user}", event.account),
            }),
            // no client: Coffer itself, or an operator on the machine
            None if event.address.is_none() => {
                json!({"accountId": event.account, "invokedBy": INTERNAL})
            }
            None => json!({"type": "Unknown", "accountId": event.account}),
        };
        let of_table = (!event.keyspace.is_empty()).then_some((kind, arn));
        let of_key = event.key_arn.map(|key| ("AWS::KMS::Key", key.to_owned()));
        Self {
            source: "cassandra.amazonaws.com",
            name: event.name.to_owned(),
            user_identity,
            source_ip_address: event
                .address
                .map_or_else(|| INTERNAL.to_owned(), |ip| ip.to_string()),
            user_agent: format!("Cassandra Client/ProtocolV{}", event.protocol_version),
            request_parameters: Value::Object(parameters),
            response_elements: Value::Null,
            additional_event_data: Map::new(),
            service_event_details: Value::Null,
            error: event.error,
            is_read_only: false,
            resources: of_table.into_iter().chain(of_key).collect(),
            tls: event.tls,
            request_id: Some(uuid::Uuid::new_v4().to_string()),
            api_version: Some("3.4.4"),
        }
    }
}

/// What stands for address, user agent and service of calls from inside the process.
pub(super) const INTERNAL: &str = "coffer.internal";
