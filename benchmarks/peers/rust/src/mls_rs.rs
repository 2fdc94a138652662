//! mls-rs over RustCrypto, which was more than twice as fast here as its OpenSSL, and its in-memory storages.
//!
//! It writes to these only when told: here, for the size of a state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mls_rs::client_builder::{MlsConfig, PaddingMode};
use mls_rs::group::proposal::CustomProposal;
use mls_rs::group::{GroupContext, ReceivedMessage, Roster};
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle};
use mls_rs::storage_provider::in_memory::InMemoryGroupStateStorage;
use mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, Group, GroupStateStorage, MlsMessage, MlsRules,
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use crate::{Fallible, Library, Sent, serve};

const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// The usual rules, without padding, and a switch for whether a commit must have a path, which is no option of a call.
#[derive(Clone)]
struct Rules(Arc<AtomicBool>);

impl MlsRules for Rules {
    type Error = std::convert::Infallible;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &Roster,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Self::Error> {
        Ok(proposals)
    }

    fn commit_options(&self, _: &Roster, _: &GroupContext, _: &ProposalBundle) -> Result<CommitOptions, Self::Error> {
        Ok(CommitOptions::new().with_path_required(self.0.load(Ordering::Relaxed)))
    }

    fn encryption_options(&self, _: &Roster, _: &GroupContext) -> Result<EncryptionOptions, Self::Error> {
        Ok(EncryptionOptions::new(true, PaddingMode::None))
    }

    fn custom_proposal_requires_update_path(&self, _: &CustomProposal) -> bool {
        true
    }
}

struct MlsRs<C: MlsConfig, F: Fn(&str) -> Fallible<Made<C>>> {
    make: F,
    path: Arc<AtomicBool>,
}

struct Made<C: MlsConfig> {
    client: Client<C>,
    storage: InMemoryGroupStateStorage,
}

struct Member<C: MlsConfig> {
    client: Client<C>,
    storage: InMemoryGroupStateStorage,
    group: Option<Group<C>>,
}

impl<C: MlsConfig> Member<C> {
    fn group(&mut self) -> Fallible<&mut Group<C>> {
        Ok(self.group.as_mut().ok_or("in no group")?)
    }
}

fn client(name: &str, rules: Rules) -> Fallible<Made<impl MlsConfig + use<>>> {
    let crypto = RustCryptoProvider::default();
    let suite = crypto.cipher_suite_provider(SUITE).ok_or("no such suite")?;
    let (secret, public) = suite.signature_key_generate()?;
    let credential = BasicCredential::new(name.as_bytes().to_vec()).into_credential();
    let storage = InMemoryGroupStateStorage::new();
    let client = Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(crypto)
        .group_state_storage(storage.clone())
        .mls_rules(rules)
        .signing_identity(SigningIdentity::new(credential, public), secret, SUITE)
        .build();
    Ok(Made { client, storage })
}

impl<C: MlsConfig, F: Fn(&str) -> Fallible<Made<C>>> Library for MlsRs<C, F> {
    type Member = Member<C>;

    fn client(&self, name: &str) -> Fallible<Member<C>> {
        let Made { client, storage } = (self.make)(name)?;
        Ok(Member { client, storage, group: None })
    }

    fn copy(&self, member: &Member<C>) -> Fallible<Member<C>> {
        let (client, storage) = (member.client.clone(), member.storage.clone());
        Ok(Member { client, storage, group: member.group.clone() })
    }

    fn key_package(&self, member: &Member<C>) -> Fallible<Vec<u8>> {
        let package = member.client.generate_key_package_message(Default::default(), Default::default(), None)?;
        Ok(package.to_bytes()?)
    }

    fn create(&self, member: &mut Member<C>) -> Fallible<()> {
        member.group = Some(member.client.create_group(Default::default(), Default::default(), None)?);
        Ok(())
    }

    fn commit(&self, member: &mut Member<C>, adds: &[Vec<u8>], path: bool) -> Fallible<Sent> {
        self.path.store(path, Ordering::Relaxed);
        let group = member.group()?;
        let mut builder = group.commit_builder();
        for bytes in adds {
            builder = builder.add_member(MlsMessage::from_bytes(bytes)?)?;
        }
        let output = builder.build()?;
        let commit = output.commit_message.to_bytes()?;
        let welcome = output.welcome_messages.first().map(|each| each.to_bytes()).transpose()?;
        group.apply_pending_commit()?;
        Ok(Sent { commit, welcome })
    }

    fn process(&self, member: &mut Member<C>, commit: &[u8]) -> Fallible<()> {
        match member.group()?.process_incoming_message(MlsMessage::from_bytes(commit)?)? {
            ReceivedMessage::Commit(_) => Ok(()),
            _ => Err("not a commit".into()),
        }
    }

    fn join(&self, member: &mut Member<C>, welcome: &[u8]) -> Fallible<()> {
        member.group = Some(member.client.join_group(None, &MlsMessage::from_bytes(welcome)?, None)?.0);
        Ok(())
    }

    fn send(&self, member: &mut Member<C>, text: &[u8]) -> Fallible<Vec<u8>> {
        Ok(member.group()?.encrypt_application_message(text, vec![])?.to_bytes()?)
    }

    fn receive(&self, member: &mut Member<C>, message: &[u8]) -> Fallible<Vec<u8>> {
        match member.group()?.process_incoming_message(MlsMessage::from_bytes(message)?)? {
            ReceivedMessage::ApplicationMessage(text) => Ok(text.data().to_vec()),
            _ => Err("not an application message".into()),
        }
    }

    fn state(&self, member: &mut Member<C>) -> Fallible<usize> {
        let storage = member.storage.clone();
        let group = member.group()?;
        group.write_to_storage()?;
        Ok(storage.state(group.group_id())?.ok_or("not stored")?.len())
    }
}

pub fn run() {
    let path = Arc::new(AtomicBool::new(true));
    let rules = Rules(path.clone());
    serve(MlsRs { make: move |name: &str| client(name, rules.clone()), path });
}
