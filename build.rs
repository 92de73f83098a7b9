//! Finds out which libcrypto there is and, with the `dovecot` feature, binds the installed Dovecot's headers and
//! writes the core's own C header; the pure part needs neither.
// A build that can't go on stops: there is nobody else to tell.
#![allow(clippy::expect_used, clippy::panic)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    libcrypto();
    #[cfg(feature = "dovecot")]
    dovecot::build();
}

/// Sets `cfg(ossl300)` where libcrypto has providers; openssl-sys says which version it found.
fn libcrypto() {
    println!("cargo:rustc-check-cfg=cfg(ossl300)");
    let version = std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    if u64::from_str_radix(&version, 16).is_ok_and(|version| version >= 0x3000_0000) {
        println!("cargo:rustc-cfg=ossl300");
    }
}

#[cfg(feature = "dovecot")]
mod dovecot {
    use std::collections::HashMap;
    use std::env;
    use std::path::{Path, PathBuf};

    /// Where distributions and Dovecot's own `make install` put `dovecot-config`.
    const CONFIG_PATHS: &[&str] = &[
        "/usr/lib/dovecot/dovecot-config",
        "/usr/lib64/dovecot/dovecot-config",
        "/usr/local/lib/dovecot/dovecot-config",
    ];

    /// The functions of Dovecot that the core calls; everything else stays unbound.
    const FUNCTIONS: &[&str] = &[
        "e_log",
        "event_add_category",
        "event_add_int",
        "event_add_str",
        "event_create",
        "event_ref",
        "event_send_abort",
        "event_set_append_log_prefix",
        "event_set_name",
        "event_unref",
        "event_want_level",
        "file_create_locked",
        "file_lock_free",
        "file_lock_set_close_on_free",
        "file_lock_set_unlink_on_free",
        "i_warning",
        "mail_namespace_find_inbox",
        "mail_storage_get_user",
        "mailbox_alloc",
        "mailbox_attribute_get",
        "mailbox_attribute_iter_deinit",
        "mailbox_attribute_iter_init",
        "mailbox_attribute_iter_next",
        "mailbox_attribute_set",
        "mailbox_free",
        "mailbox_get_last_internal_error",
        "mailbox_get_namespace",
        "mailbox_get_settings",
        "mailbox_get_storage",
        "mailbox_get_vname",
        "mailbox_list_get_root_path",
        "mailbox_open",
        "mailbox_transaction_begin",
        "mailbox_transaction_commit",
        "mailbox_transaction_rollback",
        "t_pop",
        "t_push",
    ];

    /// The files of `src/ffi` that export something.
    const EXPORTING: &[&str] = &[
        "boundary.rs",
        "cache.rs",
        "check.rs",
        "convert.rs",
        "copy.rs",
        "user.rs",
        "mailbox.rs",
        "writer.rs",
        "look.rs",
        "reader.rs",
        "saves.rs",
        "sharing.rs",
        "fs.rs",
        "spool.rs",
        "admin.rs",
    ];

    pub(crate) fn build() {
        let config = read_config();
        let include = config
            .get("dovecot_pkgincludedir")
            .expect("dovecot-config names no dovecot_pkgincludedir");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        check_version(Path::new(include));
        bind(include, &out);
        header(&out);
        link(&config);
    }

    /// `KEY=value` lines, values perhaps quoted.
    fn read_config() -> HashMap<String, String> {
        println!("cargo:rerun-if-env-changed=DOVECOT_CONFIG");
        let path = env::var("DOVECOT_CONFIG")
            .ok()
            .filter(|path| !path.is_empty())
            .or_else(|| {
                let found = CONFIG_PATHS.iter().find(|p| Path::new(p).exists());
                found.map(|p| (*p).to_owned())
            })
            .expect("no dovecot-config found: install dovecot-dev, or set DOVECOT_CONFIG");
        println!("cargo:rerun-if-changed={path}");
        let text = std::fs::read_to_string(&path).expect("dovecot-config can't be read");
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.trim_matches(['"', '\'']).to_owned()))
            .collect()
    }

    /// Sets `cfg(dovecot_2_4)` where the headers are 2.4's; refuses what nobody has tried.
    fn check_version(include: &Path) {
        println!("cargo:rustc-check-cfg=cfg(dovecot_2_4)");
        let config_h = std::fs::read_to_string(include.join("config.h")).expect("no config.h");
        let version = config_h
            .lines()
            .find_map(|l| l.strip_prefix("#define PACKAGE_VERSION \""))
            .and_then(|v| v.split('"').next())
            .expect("config.h names no PACKAGE_VERSION");
        let numbers: Vec<&str> = version.split(['.', '-']).collect();
        match numbers.as_slice() {
            ["2", "3", ..] => {}
            ["2", "4", ..] => println!("cargo:rustc-cfg=dovecot_2_4"),
            _ => panic!("Dovecot {version} is neither 2.3 nor 2.4"),
        }
    }

    fn bind(include: &str, out: &Path) {
        println!("cargo:rerun-if-changed=src/ffi/dovecot.h");
        let mut builder = bindgen::Builder::default()
            .header("src/ffi/dovecot.h")
            .clang_args([format!("-I{include}"), "-DHAVE_CONFIG_H".to_owned()])
            .allowlist_type("acl_rights_update")
            .allowlist_type("mail_user")
            .allowlist_type("mail_namespace")
            .allowlist_type("file_create_settings")
            .allowlist_var("ACL_(ID|MODIFY_MODE)_[A-Z_]*")
            .allowlist_var("MAIL_ACL_READ")
            .allowlist_var("LOG_TYPE_(DEBUG|WARNING)")
            .allowlist_var("MAIL_ATTRIBUTE_TYPE_.*")
            .allowlist_var("MAILBOX_FLAG_(READONLY|IGNORE_ACLS)")
            .allowlist_var("MAILBOX_TRANSACTION_FLAG_.*")
            .default_enum_style(bindgen::EnumVariation::Consts)
            .prepend_enum_name(false)
            .layout_tests(true)
            .merge_extern_blocks(true)
            .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_else(|_| panic!("1.85")))
            .rust_edition(bindgen::RustEdition::Edition2024)
            .generate_comments(false);
        for name in FUNCTIONS {
            builder = builder.allowlist_function(name);
        }
        builder
            .generate()
            .expect("Dovecot's headers can't be bound: is libclang installed?")
            .write_to_file(out.join("dovecot.rs"))
            .expect("the bindings can't be written");
    }

    /// Writes the header beside the bindings; `make check` holds the committed one against it. It ends its head with
    /// `MCRS_VERSION`, made from all else that it says and from what modules look up in each other: so modules and a
    /// core that don't belong together can tell.
    fn header(out: &Path) {
        const BETWEEN_MODULES: &str = "c-shim/mail/mail-crypt-plugin.h";
        println!("cargo:rerun-if-changed=cbindgen.toml");
        println!("cargo:rerun-if-changed=src/ffi");
        println!("cargo:rerun-if-changed={BETWEEN_MODULES}");
        let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        let mut config = cbindgen::Config::from_root_or_default(&root);
        let mut interface = Vec::new();
        exports(&root, &config).write(&mut interface);
        let mut interface = String::from_utf8(interface).expect("cbindgen writes UTF-8");
        interface += &std::fs::read_to_string(BETWEEN_MODULES).expect("a header can't be read");
        let version = checksum(&interface);

        let head = config.after_includes.get_or_insert_default();
        *head += &format!(
            "\n\n/* What the modules were built for, as mcrs_init() compares it: made from the interface. */\n\
             #define MCRS_VERSION {version:#010x}u"
        );
        exports(&root, &config).write_to_file(out.join("mail_crypt_core.h"));
        std::fs::write(out.join("mcrs_version.rs"), format!("{version:#x}"))
            .expect("the version can't be written");
        println!("cargo:rustc-env=MAIL_CRYPT_OUT_DIR={}", out.display());
    }

    fn exports(root: &str, config: &cbindgen::Config) -> cbindgen::Bindings {
        let mut builder = cbindgen::Builder::new().with_config(config.clone());
        for file in EXPORTING {
            builder = builder.with_src(Path::new(root).join("src/ffi").join(file));
        }
        builder.generate().expect("cbindgen failed")
    }

    /// FNV-1a of C's text, without comments and space: what only explains doesn't count.
    fn checksum(text: &str) -> u32 {
        let mut code = String::new();
        for (i, part) in text.split("/*").enumerate() {
            let after = if i == 0 {
                part
            } else {
                part.split_once("*/").map_or("", |(_, after)| after)
            };
            code.extend(after.split_whitespace());
        }
        code.bytes().fold(0x811c_9dc5, |sum, byte| {
            (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }

    /// The core needs Dovecot's libraries by name: a process that loads only the fs driver has
    /// libdovecot but not libdovecot-storage.
    fn link(config: &HashMap<String, String>) {
        let lib = config
            .get("dovecot_pkglibdir")
            .expect("dovecot-config names no dovecot_pkglibdir");
        println!("cargo:rustc-link-search=native={lib}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmail_crypt_core.so.0");
        // openssl-sys initialises libssl, of which nothing else is used: loading it costs each session of imap.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--defsym=OPENSSL_init_ssl=mcrs_init_libcrypto");
        // Not for the core alone: test programs are linked against them, too.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:rustc-link-lib=dylib=dovecot-storage");
        println!("cargo:rustc-link-lib=dylib=dovecot");
    }
}
