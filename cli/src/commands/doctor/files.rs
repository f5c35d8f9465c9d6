//! Checks of the certificate files: there, private, valid, belonging together.

use std::path::Path;
use std::time::Duration;

use quorate_certs::CertificateReport;
use quorate_certs::Identity;
use quorate_certs::KeyFileError;
use quorate_certs::Role;

use crate::clock;
use crate::commands::doctor::Check;
use crate::encoding;
use crate::settings::Settings;

/// A certificate with less time left is worth a warning.
const RENEW_BEFORE: Duration = Duration::from_secs(24 * 3600);
const ISSUE: &str = "quorate cert issue client NAME --ca DIR";

/// Checks the three files; gives the identity if there is a usable one.
pub(super) fn examine(settings: &Settings) -> (Vec<Check>, Option<Identity>) {
    let path = |key: &str| settings.get(&format!("client.{key}")).map(Path::new);
    let (ca_check, ca) = authority(path("ca_file"));
    let (certificate_check, certificate) = certificate(path("cert_file"));
    let mut checks = vec![ca_check, certificate_check];
    checks.push(key(path("cert_file"), path("key_file")));
    let identity = certificate
        .as_ref()
        .and_then(|report| report.identity.clone());
    checks.push(match (&identity, &ca) {
        (Some(identity), Some(ca)) => same_cluster(identity, ca),
        _ => Check::skip("identity", "needs ca_file and cert_file"),
    });
    (checks, identity)
}

fn authority(path: Option<&Path>) -> (Check, Option<CertificateReport>) {
    let (check, report) = readable("ca_file", path);
    let (Some(report), Some(path)) = (report, path) else {
        return (check, None);
    };
    let shown = path.display();
    if !report.authority {
        let check = Check::fail("ca_file", format!("{shown} is not a certificate authority"))
            .with_help("it is the ca.pem beside your certificate");
        return (check, None);
    }
    (validity("ca_file", path, &report), Some(report))
}

fn certificate(path: Option<&Path>) -> (Check, Option<CertificateReport>) {
    let (check, report) = readable("cert_file", path);
    let (Some(report), Some(path)) = (report, path) else {
        return (check, None);
    };
    let shown = path.display();
    match report.identity.as_ref().map(Identity::role) {
        None => {
            let uris = report.uris.len();
            let text = format!("{shown} carries no identity of Quorate ({uris} URIs)");
            (Check::fail("cert_file", text).with_help(ISSUE), None)
        }
        Some(Role::Broker) => {
            let text = format!("{shown} is a broker's; brokers do not accept it from clients");
            (Check::fail("cert_file", text).with_help(ISSUE), None)
        }
        Some(Role::Gateway) => {
            let text = format!("{shown} is a gateway's; brokers let it use no topic");
            (Check::fail("cert_file", text).with_help(ISSUE), None)
        }
        Some(_) => (validity("cert_file", path, &report), Some(report)),
    }
}

fn readable(name: &str, path: Option<&Path>) -> (Check, Option<CertificateReport>) {
    let Some(path) = path else {
        let check = Check::fail(name, "not set")
            .with_help(format!("--set client.{name}=FILE, or use a context"));
        return (check, None);
    };
    match quorate_certs::inspect(path) {
        Ok(report) => (Check::ok(name, ""), Some(report)),
        Err(error) => (Check::fail(name, error.to_string()).with_help(ISSUE), None),
    }
}

fn validity(name: &str, path: &Path, report: &CertificateReport) -> Check {
    let now = clock::wall();
    let shown = path.display();
    let until = encoding::seconds(report.not_after);
    if report.not_after <= now {
        return Check::fail(name, format!("{shown} expired {until}")).with_help(ISSUE);
    }
    if report.not_before > now {
        let from = encoding::seconds(report.not_before);
        return Check::fail(name, format!("{shown} is valid from {from} only"))
            .with_help("compare this machine's clock with the others'");
    }
    let detail = format!("{shown}, valid until {until}");
    if report.not_after < now + RENEW_BEFORE {
        return Check::warn(name, detail).with_help(ISSUE);
    }
    Check::ok(name, detail)
}

fn key(certificate: Option<&Path>, key: Option<&Path>) -> Check {
    let name = "key_file";
    let Some(key) = key else {
        return Check::fail(name, "not set").with_help("--key FILE, or use a context");
    };
    let shown = key.display();
    if let Err(error) = quorate_certs::check_key_file(key) {
        let help = match error {
            KeyFileError::ReadableByOthers { .. } => format!("chmod 600 {shown}"),
            _ => "use the key.pem beside the certificate".to_owned(),
        };
        return Check::fail(name, error.to_string()).with_help(help);
    }
    let Some(certificate) = certificate else {
        return Check::ok(name, format!("{shown}, private"));
    };
    match quorate_certs::key_matches(certificate, key) {
        Ok(true) => Check::ok(name, format!("{shown}, private, belongs to cert_file")),
        Ok(false) => Check::fail(name, format!("{shown} does not belong to cert_file"))
            .with_help("use the key.pem beside the certificate"),
        Err(error) => Check::fail(name, error.to_string()),
    }
}

fn same_cluster(identity: &Identity, ca: &CertificateReport) -> Check {
    let cluster = format!("spiffe://{}", identity.cluster());
    match ca.uris.as_slice() {
        [uri] if *uri != cluster => {
            Check::fail("identity", format!("{identity}, but ca_file is of {uri}"))
                .with_help("use the ca.pem beside the certificate")
        }
        _ => Check::ok("identity", identity.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use quorate_certs::InitRequest;
    use quorate_certs::Initialised;

    use super::*;
    use crate::commands::doctor::Status;

    fn cluster(dir: &Path, name: &str) -> Initialised {
        quorate_certs::init(&InitRequest {
            cluster: name.to_owned(),
            out: dir.join(name),
            brokers: Vec::new(),
            development: false,
            now: clock::wall(),
        })
        .unwrap()
    }

    fn statuses(ca: &Path, certificate: &Path, key: &Path) -> Vec<Status> {
        let mut settings = Settings::default();
        for (name, path) in [
            ("ca_file", ca),
            ("cert_file", certificate),
            ("key_file", key),
        ] {
            settings.flag(&format!("client.{name}"), path.display().to_string());
        }
        examine(&settings)
            .0
            .iter()
            .map(|check| check.status)
            .collect()
    }

    #[test]
    fn files_of_one_identity_pass() {
        let dir = tempfile::tempdir().unwrap();
        let admin = cluster(dir.path(), "a").admin;
        let found = statuses(
            &admin.ca_file,
            &admin.cert_file,
            admin.key_file.as_ref().unwrap(),
        );
        assert_eq!(found, [Status::Ok; 4]);
    }

    #[test]
    fn advice_fits_what_is_wrong_with_the_key() {
        let help = |path: &Path| key(None, Some(path)).help.unwrap();
        assert!(help(Path::new("/none/key.pem")).contains("beside the certificate"));
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("key.pem");
        fs::write(&open, "").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(help(&open).starts_with("chmod 600"));
    }

    #[test]
    fn each_wrong_file_fails_its_own_check() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (
            cluster(dir.path(), "a").admin,
            cluster(dir.path(), "b").admin,
        );
        let (a_key, b_key) = (a.key_file.unwrap(), b.key_file.unwrap());
        let found = statuses(&b.ca_file, &a.cert_file, &b_key);
        assert_eq!(found, [Status::Ok, Status::Ok, Status::Fail, Status::Fail]);
        fs::set_permissions(&a_key, fs::Permissions::from_mode(0o644)).unwrap();
        let found = statuses(&a.cert_file, Path::new("/none"), &a_key);
        assert_eq!(
            found,
            [Status::Fail, Status::Fail, Status::Fail, Status::Skip]
        );
    }
}
