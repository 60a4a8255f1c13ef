//! The broker inside hark, for sites that have none.
//!
//! It outlives a reload that leaves its settings alone, so that its clients stay
//! connected and what it retains stays true.

use anyhow::{Context, ensure};
use hark_broker::{Counts, Login, Server};
use hark_config::BrokerConfig;
use hark_outlet::mqtt::read_password;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// A running broker; it stops when the last copy is dropped.
#[derive(Clone)]
pub struct EmbeddedBroker {
    server: Arc<Server>,
    listen: SocketAddr,
    login: Login,
}

impl EmbeddedBroker {
    /// Starts the broker that `config` asks for, if it does.
    ///
    /// # Errors
    /// If the address is taken or cannot be listened on, or the password is not
    /// to be had.
    pub fn start(config: &BrokerConfig) -> anyhow::Result<Option<Self>> {
        if !config.embedded {
            return Ok(None);
        }
        let (listen, login) = (config.listen, login(config)?);
        let hint = "another broker may be running: set broker.listen, or broker.embedded = false";
        let server = Server::start(listen, login.clone())
            .with_context(|| format!("broker.listen = \"{listen}\": {hint}"))?;
        let who = match &login.required {
            Some((user, _)) => format!("for user {user:?}"),
            None => "for everybody on this machine".to_owned(),
        };
        tracing::info!("embedded broker on {listen}, {who}");
        Ok(Some(Self {
            server: Arc::new(server),
            listen,
            login,
        }))
    }

    /// Whether it is what `config` asks for.
    pub fn is_as(&self, config: &BrokerConfig) -> bool {
        let is_login = login(config).is_ok_and(|login| login == self.login);
        config.embedded && config.listen == self.listen && is_login
    }

    /// Tells its clients, and waits for its end until `until`.
    pub fn stop(&self, until: Instant) {
        self.server.stop(until);
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.server.counts()
    }

    /// Its thread, by name, if it panicked.
    pub fn panicked(&self) -> Vec<String> {
        self.server.threads().panicked()
    }

    /// Its thread, by name, while it runs.
    pub fn running(&self) -> Vec<String> {
        self.server.threads().running()
    }
}

/// Who may connect to the broker of `config`.
///
/// # Errors
/// If the password file cannot be read, or is empty.
pub fn login(config: &BrokerConfig) -> anyhow::Result<Login> {
    let Some(user) = &config.username else {
        return Ok(Login::default());
    };
    let password = match (&config.password, &config.password_file) {
        (Some(password), _) => password.reveal().to_owned(),
        (None, Some(path)) => {
            let password = read_password(path)?;
            ensure!(!password.is_empty(), "{} is empty", path.display());
            password
        }
        (None, None) => return Ok(Login::default()),
    };
    Ok(Login {
        required: Some((user.clone(), password)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap();
        let config = BrokerConfig {
            embedded: true,
            listen,
            username: None,
            password_file: None,
            password: None,
        };
        let error = EmbeddedBroker::start(&config).err().unwrap();
        assert!(format!("{error:#}").contains(&listen.to_string()));
    }
}
