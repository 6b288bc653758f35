// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Files of servers that are only read: over HTTP, FTP and TFTP, and from stores that speak S3.

use crate::Dict;
use crate::codec::*;

/// A file of a server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlBase {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
}

impl Object for BlockdevOptionsCurlBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
    }
}
object_codec!(BlockdevOptionsCurlBase);

/// A file of a web server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlHttp {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
    /// What is sent as a cookie, as it stands in the header.
    pub cookie: Option<String>,
    /// The id of a secret with it.
    pub cookie_secret: Option<String>,
    /// Whether ranges are asked for without a look whether the server has them; not if absent.
    pub force_range: Option<bool>,
    /// Whether the server's certificate is judged; it is if absent.
    pub sslverify: Option<bool>,
    /// A file with the authorities that are trusted; those of the system if absent. Not in QEMU.
    pub cafile: Option<String>,
    /// The id of a secret with further headers, one a line. Not in QEMU.
    pub header_secret: Option<String>,
    /// The URL of a proxy, or nothing for none; as the environment says if absent. Not in QEMU.
    pub proxy: Option<String>,
    /// Connections that there are at most at a time; 16 if absent. Not in QEMU.
    pub connections: Option<u16>,
    /// Bytes that are kept of a file of a server that can't send ranges; 64 MiB if absent. Not in QEMU.
    pub cache_size: Option<Size>,
    /// A folder in which what was read is kept, in a file without a name that ends with the node; nowhere if absent. Not in QEMU.
    pub cache_path: Option<String>,
    /// Bytes of that file; 1 GiB if absent. Not in QEMU.
    pub cache_disk_size: Option<Size>,
}

impl Object for BlockdevOptionsCurlHttp {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
            cookie: from.optional("cookie")?,
            cookie_secret: from.optional("cookie-secret")?,
            force_range: from.optional("force-range")?,
            sslverify: from.optional("sslverify")?,
            cafile: from.optional("cafile")?,
            header_secret: from.optional("header-secret")?,
            proxy: from.optional("proxy")?,
            connections: from.optional("connections")?,
            cache_size: from.optional("cache-size")?,
            cache_path: from.optional("cache-path")?,
            cache_disk_size: from.optional("cache-disk-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
        to.put_optional("cookie", &self.cookie);
        to.put_optional("cookie-secret", &self.cookie_secret);
        to.put_optional("force-range", &self.force_range);
        to.put_optional("sslverify", &self.sslverify);
        to.put_optional("cafile", &self.cafile);
        to.put_optional("header-secret", &self.header_secret);
        to.put_optional("proxy", &self.proxy);
        to.put_optional("connections", &self.connections);
        to.put_optional("cache-size", &self.cache_size);
        to.put_optional("cache-path", &self.cache_path);
        to.put_optional("cache-disk-size", &self.cache_disk_size);
    }
}
object_codec!(BlockdevOptionsCurlHttp);

/// A file of an FTP server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlFtp {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
}

impl Object for BlockdevOptionsCurlFtp {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
    }
}
object_codec!(BlockdevOptionsCurlFtp);

/// A file of an FTP server in TLS, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlFtps {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
    /// Whether the server's certificate is judged; it is if absent.
    pub sslverify: Option<bool>,
    /// A file with the authorities that are trusted; those of the system if absent. Not in QEMU.
    pub cafile: Option<String>,
    /// Whether TLS is begun by the command AUTH, at the port of FTP; at once, at a port of its own, if absent. Not in
    /// QEMU.
    pub explicit: Option<bool>,
}

impl Object for BlockdevOptionsCurlFtps {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
            sslverify: from.optional("sslverify")?,
            cafile: from.optional("cafile")?,
            explicit: from.optional("explicit")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
        to.put_optional("sslverify", &self.sslverify);
        to.put_optional("cafile", &self.cafile);
        to.put_optional("explicit", &self.explicit);
    }
}
object_codec!(BlockdevOptionsCurlFtps);

/// A file of a TFTP server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsTftp {
    /// Where it is.
    pub url: String,
    /// Bytes that are fetched beyond what was asked for, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// Bytes of a block that the server is asked for; 1428 if absent.
    pub blksize: Option<u16>,
    /// Blocks that it is asked to send for one acknowledgement; 16 if absent.
    pub windowsize: Option<u16>,
    /// Bytes that are kept of the file; 64 MiB if absent.
    pub cache_size: Option<Size>,
}

impl Object for BlockdevOptionsTftp {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            blksize: from.optional("blksize")?,
            windowsize: from.optional("windowsize")?,
            cache_size: from.optional("cache-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("blksize", &self.blksize);
        to.put_optional("windowsize", &self.windowsize);
        to.put_optional("cache-size", &self.cache_size);
    }
}
object_codec!(BlockdevOptionsTftp);

/// An object of a store that speaks S3, to be read. Not in QEMU.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsS3 {
    /// The bucket.
    pub bucket: String,
    /// The name of the object there.
    pub key: String,
    /// The object's version; the latest if absent.
    pub version: Option<String>,
    /// The URL of the store; as the environment says, else that of AWS, if absent.
    pub endpoint: Option<String>,
    /// The region; as the environment says, else us-east-1, if absent.
    pub region: Option<String>,
    /// The id of the key that requests are signed with; they are not signed if absent.
    pub access_key: Option<String>,
    /// The id of a secret with that key.
    pub secret_key_secret: Option<String>,
    /// The id of a secret with the token of a key that is lent.
    pub session_token_secret: Option<String>,
    /// Whether the bucket is in the path, not in the host's name; where an endpoint is given, if absent.
    pub path_style: Option<bool>,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// Whether the server's certificate is judged; it is if absent.
    pub sslverify: Option<bool>,
    /// A file with the authorities that are trusted; those of the system if absent.
    pub cafile: Option<String>,
    /// The URL of a proxy, or nothing for none; as the environment says if absent.
    pub proxy: Option<String>,
    /// Connections that there are at most at a time; 16 if absent.
    pub connections: Option<u16>,
    /// Bytes that are kept of an object of a store that can't send ranges; 64 MiB if absent.
    pub cache_size: Option<Size>,
    /// A folder in which what was read is kept, in a file without a name that ends with the node; nowhere if absent.
    pub cache_path: Option<String>,
    /// Bytes of that file; 1 GiB if absent.
    pub cache_disk_size: Option<Size>,
}

impl Object for BlockdevOptionsS3 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            bucket: from.required("bucket")?,
            key: from.required("key")?,
            version: from.optional("version")?,
            endpoint: from.optional("endpoint")?,
            region: from.optional("region")?,
            access_key: from.optional("access-key")?,
            secret_key_secret: from.optional("secret-key-secret")?,
            session_token_secret: from.optional("session-token-secret")?,
            path_style: from.optional("path-style")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            sslverify: from.optional("sslverify")?,
            cafile: from.optional("cafile")?,
            proxy: from.optional("proxy")?,
            connections: from.optional("connections")?,
            cache_size: from.optional("cache-size")?,
            cache_path: from.optional("cache-path")?,
            cache_disk_size: from.optional("cache-disk-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("bucket", &self.bucket);
        to.put("key", &self.key);
        to.put_optional("version", &self.version);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("region", &self.region);
        to.put_optional("access-key", &self.access_key);
        to.put_optional("secret-key-secret", &self.secret_key_secret);
        to.put_optional("session-token-secret", &self.session_token_secret);
        to.put_optional("path-style", &self.path_style);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("sslverify", &self.sslverify);
        to.put_optional("cafile", &self.cafile);
        to.put_optional("proxy", &self.proxy);
        to.put_optional("connections", &self.connections);
        to.put_optional("cache-size", &self.cache_size);
        to.put_optional("cache-path", &self.cache_path);
        to.put_optional("cache-disk-size", &self.cache_disk_size);
    }
}
object_codec!(BlockdevOptionsS3);
