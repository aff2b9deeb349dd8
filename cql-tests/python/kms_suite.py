"""Every operation of the KMS through unmodified boto3, as its users write it.

usage: kms_suite.py ENDPOINT REGION   (credentials of the account root: AWS_SHARED_CREDENTIALS_FILE;
those of the user `ann`, who has no policy, and of `bob`, who may list keys: sections of the same file)
Prints `all good` at the end; the first thing that is not as expected ends it.
"""

import json
import os
import sys
from datetime import datetime, timedelta, timezone

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

ENDPOINT, REGION = sys.argv[1:3]


def client(profile="default", **more):
    session = boto3.Session(profile_name=profile, region_name=REGION)
    config = Config(retries={"total_max_attempts": 1}, **more)
    return session.client("kms", endpoint_url=ENDPOINT, config=config)


kms, ann, bob = client(), client("ann"), client("bob")
lax = client(parameter_validation=False)


def same(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def refused(code, call, text="", **arguments):
    """The call fails with this exception, status 400 and this text; its exception class is modelled or common."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        found = error.response["Error"]
        same(found["Code"], code)
        assert text in found.get("Message", ""), f"{found} lacks {text!r}"
        same(error.response["ResponseMetadata"]["HTTPStatusCode"], 400)
        same(error.response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"], code)
        assert error.response["ResponseMetadata"]["RequestId"]
        return error
    raise AssertionError(f"not refused with {code}: {answer}")


def new_key(**arguments):
    return kms.create_key(**arguments)["KeyMetadata"]["Arn"]


def identity():
    described = kms.describe_key(KeyId=new_key())["KeyMetadata"]
    return described["AWSAccountId"]


ACCOUNT = identity()
ANN = f"arn:aws:iam::{ACCOUNT}:user/ann"
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"


def policy(*statements):
    root = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [root, *statements]})


def allow(principal, action, **condition):
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": action, "Resource": "*"}
    return statement | ({"Condition": condition} if condition else {})


def keys():
    made = kms.create_key(Description="for tests", Tags=[{"TagKey": "team", "TagValue": "db"}])["KeyMetadata"]
    arn, key_id = made["Arn"], made["KeyId"]
    same(arn, f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key_id}")
    for member, value in {
        "Enabled": True, "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT", "KeyManager": "CUSTOMER",
        "Origin": "AWS_KMS", "KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "MultiRegion": False, "Description": "for tests",
        "AWSAccountId": ACCOUNT,
    }.items():
        same(made[member], value)
    assert abs(made["CreationDate"] - datetime.now(timezone.utc)) < timedelta(minutes=5)
    kms.create_alias(AliasName="alias/tests", TargetKeyId=key_id)
    alias_arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/tests"
    for name in (key_id, arn, "alias/tests", alias_arn):
        same(kms.describe_key(KeyId=name)["KeyMetadata"]["Arn"], arn)
    kms.update_key_description(KeyId=arn, Description="changed")
    same(kms.describe_key(KeyId=arn)["KeyMetadata"]["Description"], "changed")
    refused("NotFoundException", kms.describe_key, KeyId="alias/nowhere")
    refused("NotFoundException", kms.describe_key, KeyId="12345678-1234-1234-1234-123456789012")
    refused("InvalidArnException", kms.describe_key, KeyId="arn:aws:kms:nonsense")
    signing = new_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
    refused("InvalidKeyUsageException", kms.generate_data_key, KeyId=signing, KeySpec="AES_256")
    refused("UnknownOperationException", kms.sign, KeyId=signing, Message=b"a", SigningAlgorithm="RSASSA_PSS_SHA_256")
    same(kms.list_resource_tags(KeyId=arn)["Tags"], [{"TagKey": "team", "TagValue": "db"}])
    kms.tag_resource(KeyId=arn, Tags=[{"TagKey": "class", "TagValue": "secret"}])
    kms.untag_resource(KeyId=arn, TagKeys=["team"])
    same(kms.list_resource_tags(KeyId=arn)["Tags"], [{"TagKey": "class", "TagValue": "secret"}])


def paging():
    for _ in range(5):
        new_key()
    everything = {key["KeyArn"] for page in kms.get_paginator("list_keys").paginate() for key in page["Keys"]}
    found, marker, pages = [], {}, 0
    while True:
        page = kms.list_keys(Limit=2, **marker)
        found += [key["KeyArn"] for key in page["Keys"]]
        assert len(page["Keys"]) <= 2
        pages += 1
        if not page["Truncated"]:
            assert "NextMarker" not in page
            break
        marker = {"Marker": page["NextMarker"]}
    same((len(found), set(found)), (len(everything), everything))
    assert pages >= 3
    refused("InvalidMarkerException", kms.list_keys, Marker="nonsense")
    refused("ValidationException", kms.list_keys, Limit=1001)


def cryptography():
    key, other = new_key(), new_key()
    context = {"Tenant": "blue", "purpose": "test"}
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)
    same((made["KeyId"], len(made["Plaintext"]), len(made["KeyMaterialId"])), (key, 32, 64))
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    same((opened["Plaintext"], opened["KeyId"]), (made["Plaintext"], key))
    same(opened["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT")
    same(opened["KeyMaterialId"], made["KeyMaterialId"])
    turned = dict(reversed(context.items()))
    same(kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=turned)["Plaintext"], made["Plaintext"])
    blob = made["CiphertextBlob"]
    refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob)
    refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob, EncryptionContext={**context, "tenant": "x"})
    refused("IncorrectKeyException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=other)
    damaged = bytes([*blob[:-1], blob[-1] ^ 1])
    refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=damaged, EncryptionContext=context)
    same(len(kms.generate_data_key(KeyId=key, KeySpec="AES_128")["Plaintext"]), 16)
    same(len(kms.generate_data_key(KeyId=key, NumberOfBytes=1024)["Plaintext"]), 1024)
    refused("ValidationException", kms.generate_data_key, KeyId=key)
    refused("ValidationException", kms.generate_data_key, KeyId=key, NumberOfBytes=1025)
    silent = kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")
    assert "Plaintext" not in silent
    same(len(kms.decrypt(CiphertextBlob=silent["CiphertextBlob"])["Plaintext"]), 32)
    sealed = kms.encrypt(KeyId=key, Plaintext=b"x" * 4096, EncryptionContext=context)
    same(kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)["Plaintext"], b"x" * 4096)
    refused("ValidationException", kms.encrypt, KeyId=key, Plaintext=b"x" * 4097)
    moved = kms.re_encrypt(
        CiphertextBlob=sealed["CiphertextBlob"], SourceEncryptionContext=context, DestinationKeyId=other,
        DestinationEncryptionContext={"now": "here"},
    )
    same((moved["SourceKeyId"], moved["KeyId"]), (key, other))
    assert moved["SourceKeyMaterialId"] != moved["DestinationKeyMaterialId"]
    opened = kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"now": "here"})
    same((opened["KeyId"], opened["Plaintext"]), (other, b"x" * 4096))
    same(len(kms.generate_random(NumberOfBytes=77)["Plaintext"]), 77)
    for call, arguments in [
        (kms.encrypt, {"KeyId": key, "Plaintext": b"a"}),
        (kms.decrypt, {"CiphertextBlob": silent["CiphertextBlob"]}),
        (kms.generate_data_key, {"KeyId": key, "KeySpec": "AES_256"}),
        (kms.generate_data_key_without_plaintext, {"KeyId": key, "KeySpec": "AES_256"}),
        (kms.re_encrypt, {"CiphertextBlob": silent["CiphertextBlob"], "DestinationKeyId": other}),
    ]:
        refused("DryRunOperationException", call, DryRun=True, **arguments)
    refused("AccessDeniedException", ann.encrypt, KeyId=key, Plaintext=b"a", DryRun=True)


def states():
    key = new_key()
    sealed = kms.encrypt(KeyId=key, Plaintext=b"a")["CiphertextBlob"]
    uses = [
        (kms.encrypt, {"KeyId": key, "Plaintext": b"a"}),
        (kms.decrypt, {"CiphertextBlob": sealed}),
        (kms.generate_data_key, {"KeyId": key, "KeySpec": "AES_256"}),
        (kms.generate_data_key_without_plaintext, {"KeyId": key, "KeySpec": "AES_256"}),
        (kms.re_encrypt, {"CiphertextBlob": sealed, "DestinationKeyId": key}),
        (kms.create_grant, {"KeyId": key, "GranteePrincipal": ANN, "Operations": ["Decrypt"]}),
    ]
    kms.disable_key(KeyId=key)
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    same((described["Enabled"], described["KeyState"]), (False, "Disabled"))
    for call, arguments in uses:
        refused("DisabledException", call, f"{key} is disabled.", **arguments)
    refused("DisabledException", kms.enable_key_rotation, KeyId=key)
    kms.enable_key(KeyId=key)
    same(kms.decrypt(CiphertextBlob=sealed)["Plaintext"], b"a")
    refused("KMSInvalidStateException", kms.cancel_key_deletion, KeyId=key)
    refused("ValidationException", kms.schedule_key_deletion, KeyId=key, PendingWindowInDays=6)
    answer = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    same((answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]), (key, "PendingDeletion", 7))
    assert abs(answer["DeletionDate"] - datetime.now(timezone.utc) - timedelta(days=7)) < timedelta(hours=1)
    for call, arguments in uses:
        refused("KMSInvalidStateException", call, f"{key} is pending deletion", **arguments)
    for call in (kms.enable_key, kms.disable_key, kms.schedule_key_deletion):
        refused("KMSInvalidStateException", call, KeyId=key)
    refused("KMSInvalidStateException", kms.create_alias, AliasName="alias/late", TargetKeyId=key)
    assert kms.list_grants(KeyId=key)["Grants"] == []
    assert kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    kms.cancel_key_deletion(KeyId=key)
    same(kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"], "Disabled")
    kms.enable_key(KeyId=key)
    same(kms.decrypt(CiphertextBlob=sealed)["Plaintext"], b"a")


def aliases():
    first, second = new_key(), new_key()
    kms.create_alias(AliasName="alias/moving", TargetKeyId=first)
    refused("AlreadyExistsException", kms.create_alias, AliasName="alias/moving", TargetKeyId=second)
    for name in ("moving", "alias/", "alias/aws/mine", "alias/a b"):
        try:
            kms.create_alias(AliasName=name, TargetKeyId=first)
        except ClientError as error:
            assert error.response["Error"]["Code"] in (
                "ValidationException", "InvalidAliasNameException", "NotAuthorizedException"), error
        else:
            raise AssertionError(f"the alias {name} was made")
    sealed = kms.encrypt(KeyId="alias/moving", Plaintext=b"a")
    same(sealed["KeyId"], first)
    kms.update_alias(AliasName="alias/moving", TargetKeyId=second)
    same(kms.describe_key(KeyId="alias/moving")["KeyMetadata"]["Arn"], second)
    refused("IncorrectKeyException", kms.decrypt, CiphertextBlob=sealed["CiphertextBlob"], KeyId="alias/moving")
    listed = kms.list_aliases(KeyId=second)["Aliases"]
    same([alias["AliasName"] for alias in listed], ["alias/moving"])
    same(listed[0]["AliasArn"], f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/moving")
    everything = [alias for page in kms.get_paginator("list_aliases").paginate() for alias in page["Aliases"]]
    assert any(alias["AliasName"] == "alias/moving" for alias in everything)
    kms.delete_alias(AliasName="alias/moving")
    refused("NotFoundException", kms.describe_key, KeyId="alias/moving")


def policies():
    key = new_key()
    default = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    same(default["Statement"][0]["Principal"], {"AWS": ROOT})
    same(default["Statement"][0]["Action"], "kms:*")
    same(kms.list_key_policies(KeyId=key)["PolicyNames"], ["default"])
    sealed = kms.encrypt(KeyId=key, Plaintext=b"a", EncryptionContext={"Tenant": "blue"})["CiphertextBlob"]
    blue = {"CiphertextBlob": sealed, "EncryptionContext": {"Tenant": "blue"}}
    refused("AccessDeniedException", ann.decrypt, f"User: {ANN} is not authorized to perform: kms:Decrypt", **blue)

    def put(*statements):
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy(*statements))

    put(allow(ANN, "kms:Decrypt", StringEquals={"kms:EncryptionContext:Tenant": "blue"}))
    same(ann.decrypt(**blue)["Plaintext"], b"a")
    refused("AccessDeniedException", ann.encrypt, KeyId=key, Plaintext=b"a")
    put(allow(ANN, "kms:Decrypt", StringEquals={"kms:EncryptionContext:Tenant": "red"}))
    refused("AccessDeniedException", ann.decrypt, **blue)
    put(allow(ANN, "kms:*Crypt*", StringLike={"kms:ViaService": "cassandra.*.amazonaws.com"}))
    refused("AccessDeniedException", ann.decrypt, **blue)
    put(allow(ANN, "kms:De*", Bool={"aws:SecureTransport": "false"}, IpAddress={"aws:SourceIp": "127.0.0.0/8"},
              StringEquals={"kms:CallerAccount": ACCOUNT}, Null={"kms:ViaService": "true"}))
    if ENDPOINT.startswith("http:"):
        same(ann.decrypt(**blue)["Plaintext"], b"a")
    put(allow(ANN, "kms:*"), allow(ANN, "kms:Decrypt") | {"Effect": "Deny"})
    refused("AccessDeniedException", ann.decrypt, "explicit deny", **blue)
    ann.encrypt(KeyId=key, Plaintext=b"a")
    put(allow(ROOT, "kms:Decrypt") | {"Effect": "Deny"})
    refused("AccessDeniedException", kms.decrypt, **blue)
    put()
    same(bob.list_keys(Limit=1)["Truncated"], True)
    refused("AccessDeniedException", ann.list_keys)
    refused("AccessDeniedException", bob.decrypt, **blue)
    for document, text in [
        ("{", ""),
        (policy(allow(ANN, "kms:Decrpyt")), "kms:Decrpyt"),
        (policy(allow(ANN, "kms:*", StringMatches={"kms:ViaService": "a"})), "StringMatches"),
        (policy(allow(ANN, "kms:*", StringEquals={"aws:PrincipalOrgID": "o-1"})), "aws:PrincipalOrgID"),
        (policy(allow(ANN, "kms:*", StringEquals={"kms:ViaService": "${aws:username}"})), "${aws:username}"),
    ]:
        refused("MalformedPolicyDocumentException", kms.put_key_policy, text, KeyId=key, PolicyName="default", Policy=document)
    only_ann = json.dumps({"Statement": allow(ANN, "kms:*")})
    refused("MalformedPolicyDocumentException", kms.put_key_policy, KeyId=key, PolicyName="default", Policy=only_ann)
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=only_ann, BypassPolicyLockoutSafetyCheck=True)
    refused("AccessDeniedException", kms.describe_key, KeyId=key)
    ann.put_key_policy(KeyId=key, PolicyName="default", Policy=policy(allow(ANN, "kms:*")))
    same(kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"], key)


def grants():
    key = new_key()
    blue, red = {"Tenant": "blue", "x": "y"}, {"Tenant": "red"}
    operations = ["DescribeKey", "GenerateDataKey", "Decrypt", "Encrypt", "ReEncryptFrom", "ReEncryptTo", "RetireGrant"]
    arguments = {
        "KeyId": key, "GranteePrincipal": ANN, "RetiringPrincipal": BOB, "Operations": operations,
        "Constraints": {"EncryptionContextSubset": {"Tenant": "blue"}}, "Name": "one",
    }
    refused("DryRunOperationException", kms.create_grant, DryRun=True, **arguments)
    made = kms.create_grant(**arguments)
    again = kms.create_grant(**arguments)
    same(again["GrantId"], made["GrantId"])
    same(len(kms.list_grants(KeyId=key)["Grants"]), 1)
    listed = kms.list_grants(KeyId=key)["Grants"][0]
    for member, value in {
        "KeyId": key, "GrantId": made["GrantId"], "Name": "one", "GranteePrincipal": ANN, "RetiringPrincipal": BOB,
        "IssuingAccount": ROOT, "Constraints": {"EncryptionContextSubset": {"Tenant": "blue"}},
    }.items():
        same(listed[member], value)
    same(sorted(listed["Operations"]), sorted(operations))
    sealed = ann.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=blue, GrantTokens=[made["GrantToken"]])
    same(ann.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=blue)["Plaintext"], sealed["Plaintext"])
    same(ann.describe_key(KeyId=key)["KeyMetadata"]["Arn"], key)
    refused("AccessDeniedException", ann.encrypt, KeyId=key, Plaintext=b"a", EncryptionContext=red)
    refused("AccessDeniedException", ann.encrypt, KeyId=key, Plaintext=b"a")
    refused("AccessDeniedException", ann.disable_key, KeyId=key)
    refused("AccessDeniedException", ann.list_grants, KeyId=key)
    refused("InvalidGrantTokenException", ann.decrypt, CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=blue,
            GrantTokens=["bm9uc2Vuc2U="])
    try:
        kms.create_grant(KeyId=key, GranteePrincipal=ANN, Operations=["Sign"])
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("ValidationError", "ValidationException"), error
    else:
        raise AssertionError("a symmetric key signs")
    child = {"KeyId": key, "GranteePrincipal": BOB, "Operations": ["Decrypt"]}
    refused("AccessDeniedException", ann.create_grant, **child)
    parent = kms.create_grant(
        KeyId=key, GranteePrincipal=ANN, Operations=["Decrypt", "CreateGrant"],
        Constraints={"EncryptionContextEquals": blue})
    constraints = {"Constraints": {"EncryptionContextEquals": blue}}
    ann.create_grant(**child, **constraints)
    same(bob.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=blue)["Plaintext"], sealed["Plaintext"])
    kms.revoke_grant(KeyId=key, GrantId=parent["GrantId"])
    retirable = kms.list_retirable_grants(RetiringPrincipal=BOB)["Grants"]
    same([grant["GrantId"] for grant in retirable], [made["GrantId"]])
    refused("DryRunOperationException", bob.retire_grant, KeyId=key, GrantId=made["GrantId"], DryRun=True)
    bob.retire_grant(KeyId=key, GrantId=made["GrantId"])
    refused("AccessDeniedException", ann.decrypt, CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=blue)
    by_token = kms.create_grant(**{**arguments, "Name": "two"})
    ann.retire_grant(GrantToken=by_token["GrantToken"])
    many = {kms.create_grant(KeyId=key, GranteePrincipal=ANN, Operations=["Decrypt"])["GrantId"] for _ in range(7)}
    pages = list(kms.get_paginator("list_grants").paginate(
        KeyId=key, GranteePrincipal=ANN, PaginationConfig={"PageSize": 3}))
    assert len(pages) >= 3
    same({grant["GrantId"] for page in pages for grant in page["Grants"]}, many)
    one = next(iter(many))
    same([grant["GrantId"] for grant in kms.list_grants(KeyId=key, GrantId=one)["Grants"]], [one])
    refused("DryRunOperationException", kms.revoke_grant, KeyId=key, GrantId=one, DryRun=True)
    for grant in many:
        kms.revoke_grant(KeyId=key, GrantId=grant)
    refused("NotFoundException", kms.revoke_grant, KeyId=key, GrantId=one)


def rotation():
    key = new_key()
    same(kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"], False)
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=180)
    status = kms.get_key_rotation_status(KeyId=key)
    same((status["KeyRotationEnabled"], status["RotationPeriodInDays"]), (True, 180))
    assert status["NextRotationDate"] > datetime.now(timezone.utc) + timedelta(days=179)
    refused("ValidationException", lax.enable_key_rotation, KeyId=key, RotationPeriodInDays=89)
    old = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    same(kms.rotate_key_on_demand(KeyId=key)["KeyId"], key)
    new = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert new["KeyMaterialId"] != old["KeyMaterialId"]
    same(kms.decrypt(CiphertextBlob=old["CiphertextBlob"])["Plaintext"], old["Plaintext"])
    renewed = kms.re_encrypt(CiphertextBlob=old["CiphertextBlob"], DestinationKeyId=key)
    same((renewed["SourceKeyMaterialId"], renewed["DestinationKeyMaterialId"]),
         (old["KeyMaterialId"], new["KeyMaterialId"]))
    same(kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"], new["KeyMaterialId"])
    rotations = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    same({one["KeyMaterialId"] for one in rotations}, {old["KeyMaterialId"], new["KeyMaterialId"]})
    on_demand = kms.list_key_rotations(KeyId=key)["Rotations"]
    same([one["RotationType"] for one in on_demand], ["ON_DEMAND"])
    kms.disable_key_rotation(KeyId=key)
    same(kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"], False)


def wrap(material, parameters, algorithm):
    public = serialization.load_der_public_key(parameters["PublicKey"])
    kind = hashes.SHA256() if algorithm.endswith("256") else hashes.SHA1()
    return public.encrypt(material, padding.OAEP(mgf=padding.MGF1(kind), algorithm=kind, label=None))


def importing():
    key = new_key(Origin="EXTERNAL")
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    same((described["KeyState"], described["Origin"], described["Enabled"]), ("PendingImport", "EXTERNAL", False))
    refused("KMSInvalidStateException", kms.encrypt, "is pending import", KeyId=key, Plaintext=b"a")
    refused("UnsupportedOperationException", kms.enable_key_rotation, KeyId=key)
    material = os.urandom(32)

    def bring(algorithm="RSAES_OAEP_SHA_256", spec="RSA_2048", bytes_=material, **more):
        parameters = kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)
        assert parameters["ParametersValidTo"] > datetime.now(timezone.utc)
        more.setdefault("ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE")
        return {"KeyId": key, "ImportToken": parameters["ImportToken"],
                "EncryptedKeyMaterial": wrap(bytes_, parameters, algorithm), **more}

    kms.import_key_material(**bring())
    sealed = kms.encrypt(KeyId=key, Plaintext=b"a")["CiphertextBlob"]
    same(kms.describe_key(KeyId=key)["KeyMetadata"]["ExpirationModel"], "KEY_MATERIAL_DOES_NOT_EXPIRE")
    kms.delete_imported_key_material(KeyId=key)
    same(kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"], "PendingImport")
    refused("KMSInvalidStateException", kms.decrypt, "is pending import", CiphertextBlob=sealed)
    refused("IncorrectKeyMaterialException", kms.import_key_material, **bring(bytes_=os.urandom(32)))
    until = datetime.now(timezone.utc) + timedelta(days=2)
    kms.import_key_material(**bring("RSAES_OAEP_SHA_1", ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=until))
    same(kms.decrypt(CiphertextBlob=sealed)["Plaintext"], b"a")
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    same(described["ExpirationModel"], "KEY_MATERIAL_EXPIRES")
    assert abs(described["ValidTo"] - until) < timedelta(seconds=2)
    good = bring()
    refused("InvalidImportTokenException", kms.import_key_material, **{**good, "ImportToken": b"nonsense"})
    refused("InvalidCiphertextException", kms.import_key_material, **{**good, "EncryptedKeyMaterial": b"x" * 256})
    same(kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"], "Enabled")


def signatures():
    key = new_key()
    wrong = boto3.client(
        "kms", endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret", config=Config(retries={"total_max_attempts": 1}))
    refused("UnrecognizedClientException", wrong.describe_key, KeyId=key)
    own = boto3.Session().get_credentials()
    forged = boto3.client(
        "kms", endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id=own.access_key,
        aws_secret_access_key="secret", config=Config(retries={"total_max_attempts": 1}))
    refused("InvalidSignatureException", forged.describe_key, KeyId=key)
    temporary = boto3.client(
        "kms", endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id=own.access_key,
        aws_secret_access_key=own.secret_key, aws_session_token="token")
    refused("UnrecognizedClientException", temporary.describe_key, KeyId=key)
    elsewhere = boto3.Session(region_name="ap-south-2").client("kms", endpoint_url=ENDPOINT)
    refused("InvalidSignatureException", elsewhere.describe_key, "ap-south-2", KeyId=key)


for part in (keys, paging, cryptography, states, aliases, policies, grants, rotation, importing, signatures):
    part()
    print(part.__name__, flush=True)
print("all good")
