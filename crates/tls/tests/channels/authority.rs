//! Certificates, made for a test.

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509CrlBuilder, X509Extension, X509Name, X509RevokedBuilder};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A folder of credentials, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cairn-tls-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn put(&self, name: &str, content: &[u8]) -> &Self {
        std::fs::write(self.0.join(name), content).unwrap();
        self
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key.
pub struct Issued {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Issued {
    /// Puts them into a folder as those of a server or a client.
    pub fn put(&self, folder: &Folder, end: &str) {
        folder.put(&format!("{end}-cert.pem"), &self.certificate.to_pem().unwrap());
        folder.put(&format!("{end}-key.pem"), &self.key.private_key_to_pem_pkcs8().unwrap());
    }
}

/// What a certificate says.
#[derive(Clone, Copy)]
pub struct Says {
    pub name: &'static str,
    pub host: &'static str,
    pub server: bool,
    pub client: bool,
    /// Seconds from now.
    pub from: i64,
    pub to: i64,
}

/// A server's certificate for `disk.example` and 127.0.0.1.
pub const SERVER: Says =
    Says { name: "server", host: "disk.example", server: true, client: false, from: -60, to: 3600 };
/// A client's.
pub const CLIENT: Says = Says { name: "client", host: "", server: false, client: true, ..SERVER };

/// Somebody who signs certificates.
pub struct Authority(Issued);

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(common: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "Cairn").unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    name.build()
}

fn at(seconds: i64) -> Asn1Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    Asn1Time::from_unix(now + seconds).unwrap()
}

fn blank(common: &str, key: &PKey<Private>, from: i64, to: i64) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(COUNT.fetch_add(1, Ordering::Relaxed)).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    builder.set_subject_name(&name(common)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&at(from)).unwrap();
    builder.set_not_after(&at(to)).unwrap();
    builder
}

impl Authority {
    pub fn new(common: &str) -> Self {
        Self::lasting(common, 3600)
    }

    /// One whose own certificate ends in so many seconds.
    pub fn lasting(common: &str, to: i64) -> Self {
        let key = key();
        let mut builder = blank(common, &key, -7200, to);
        builder.set_issuer_name(&name(common)).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder
            .append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap())
            .unwrap();
        let id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(id).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self(Issued { certificate: builder.build(), key })
    }

    /// One whose own certificate this one has signed.
    pub fn deputy(&self, common: &str) -> Self {
        let key = key();
        let mut builder = blank(common, &key, -7200, 3600);
        builder.set_issuer_name(self.0.certificate.subject_name()).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder
            .append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap())
            .unwrap();
        let id = SubjectKeyIdentifier::new()
            .build(&builder.x509v3_context(Some(&self.0.certificate), None))
            .unwrap();
        builder.append_extension(id).unwrap();
        builder.sign(&self.0.key, MessageDigest::sha256()).unwrap();
        Self(Issued { certificate: builder.build(), key })
    }

    /// Its own certificate.
    pub fn own(&self) -> &Issued {
        &self.0
    }

    pub fn issue(&self, says: Says) -> Issued {
        let key = key();
        let mut builder = blank(says.name, &key, says.from, says.to);
        builder.set_issuer_name(self.0.certificate.subject_name()).unwrap();
        builder.append_extension(BasicConstraints::new().critical().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().critical().digital_signature().build().unwrap()).unwrap();
        let mut uses = ExtendedKeyUsage::new();
        if says.server {
            uses.server_auth();
        }
        if says.client {
            uses.client_auth();
        }
        builder.append_extension(uses.build().unwrap()).unwrap();
        if !says.host.is_empty() {
            let context = builder.x509v3_context(Some(&self.0.certificate), None);
            let names = SubjectAlternativeName::new().dns(says.host).ip("127.0.0.1").build(&context).unwrap();
            builder.append_extension(names).unwrap();
        }
        builder.sign(&self.0.key, MessageDigest::sha256()).unwrap();
        Issued { certificate: builder.build(), key }
    }

    /// Takes certificates back: the list of them.
    pub fn revoke(&self, revoked: &[&Issued]) -> Vec<u8> {
        let mut list = X509CrlBuilder::new().unwrap();
        list.set_issuer_name(self.0.certificate.subject_name()).unwrap();
        list.set_last_update(&at(-60)).unwrap();
        list.set_next_update(&at(3600)).unwrap();
        let context = X509::builder().unwrap();
        let context = context.x509v3_context(Some(&self.0.certificate), None);
        list.append_extension(AuthorityKeyIdentifier::new().keyid(true).build(&context).unwrap()).unwrap();
        let (number, one) = (Asn1Object::from_str("2.5.29.20"), Asn1OctetString::new_from_bytes(&[2, 1, 1]));
        list.append_extension(X509Extension::new_from_der(&number.unwrap(), false, &one.unwrap()).unwrap())
            .unwrap();
        for issued in revoked {
            let mut entry = X509RevokedBuilder::new().unwrap();
            entry.set_serial_number(issued.certificate.serial_number()).unwrap();
            entry.set_revocation_date(&at(-30)).unwrap();
            list.add_revoked(entry.build()).unwrap();
        }
        list.sort().unwrap();
        list.sign(&self.0.key, MessageDigest::sha256()).unwrap();
        list.build().unwrap().to_pem().unwrap()
    }

    /// A folder in which it is trusted.
    pub fn folder(&self) -> Folder {
        let folder = Folder::new();
        folder.put("ca-cert.pem", &self.0.certificate.to_pem().unwrap());
        folder
    }

    /// A folder with what one end needs.
    pub fn equip(&self, says: Says) -> Folder {
        let folder = self.folder();
        let end = if says.server { "server" } else { "client" };
        self.issue(says).put(&folder, end);
        folder
    }
}
