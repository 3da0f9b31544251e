//! `hubstorage-agent add-address`: puts the address that the SDKs ask on this node, and ends. It is the only
//! part of the agent that needs a right: `CAP_NET_ADMIN`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, new_connection};
use thiserror::Error;

/// Which address, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct AddAddress {
    /// Address that the agent will listen on.
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)))]
    pub address: IpAddr,

    /// Interface that gets the address if no interface of the node has it.
    #[arg(long, value_name = "NAME", default_value = "lo")]
    pub interface: String,
}

/// How the address came to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was added to the interface that was asked for.
    Now,
    /// This interface had it already.
    Before(String),
}

/// Why the address is not there.
#[derive(Debug, Error)]
pub enum AddError {
    /// The usual reason.
    #[error(
        "may not add {address} to {interface}: this needs CAP_NET_ADMIN, in the host's network; give the container securityContext.capabilities.add: [NET_ADMIN] and run it as uid 0"
    )]
    Forbidden {
        /// The address.
        address: IpAddr,
        /// The interface.
        interface: String,
    },
    /// A wrong `--interface`.
    #[error("this node has no interface {0}; `ip link` lists those that it has")]
    NoInterface(String),
    /// The kernel's answer, or none.
    #[error("could not {action}: {error}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// What came back.
        error: rtnetlink::Error,
    },
    /// No way to ask the kernel.
    #[error("could not open a netlink socket: {0}")]
    Socket(#[from] io::Error),
}

impl AddAddress {
    /// Adds the address unless an interface has it. Safe to repeat, and beside another that does the same.
    ///
    /// # Errors
    /// No right to do so, no such interface, or what else the kernel says.
    pub async fn run(&self) -> Result<Added, AddError> {
        let (connection, handle, _) = new_connection()?;
        let connection = tokio::spawn(connection);
        let added = self.add(&handle).await;
        connection.abort();
        added
    }

    async fn add(&self, handle: &Handle) -> Result<Added, AddError> {
        if let Some(interface) = holder_of(handle, self.address).await? {
            return Ok(Added::Before(interface));
        }
        let index = index_of(handle, &self.interface).await?;
        let prefix = if self.address.is_ipv4() { 32 } else { 128 };
        match handle
            .address()
            .add(index, self.address, prefix)
            .execute()
            .await
        {
            Ok(()) => Ok(Added::Now),
            // Somebody was quicker.
            Err(error) if kind(&error) == Some(io::ErrorKind::AlreadyExists) => {
                Ok(Added::Before(self.interface.clone()))
            }
            Err(error) if kind(&error) == Some(io::ErrorKind::PermissionDenied) => {
                Err(AddError::Forbidden {
                    address: self.address,
                    interface: self.interface.clone(),
                })
            }
            Err(error) => Err(netlink("add the address")(error)),
        }
    }
}

/// The name of the interface that has `address`.
async fn holder_of(handle: &Handle, address: IpAddr) -> Result<Option<String>, AddError> {
    let mut addresses = handle.address().get().execute();
    let action = "list the addresses of this node";
    while let Some(found) = addresses.try_next().await.map_err(netlink(action))? {
        // IPv4 has both attributes, the same but for point-to-point links; IPv6 has only `Address`.
        let local = found
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(local) => Some(*local),
                _ => None,
            });
        let own = local.or_else(|| {
            found
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Address(own) => Some(*own),
                    _ => None,
                })
        });
        if own == Some(address) {
            return Ok(Some(name_of(handle, found.header.index).await?));
        }
    }
    Ok(None)
}

async fn name_of(handle: &Handle, index: u32) -> Result<String, AddError> {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links
        .try_next()
        .await
        .map_err(netlink("name an interface"))?;
    let name = link.and_then(|link| {
        link.attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
    });
    Ok(name.unwrap_or_else(|| format!("number {index}")))
}

async fn index_of(handle: &Handle, interface: &str) -> Result<u32, AddError> {
    let mut links = handle
        .link()
        .get()
        .match_name(interface.to_owned())
        .execute();
    match links.try_next().await {
        Ok(Some(link)) => Ok(link.header.index),
        Ok(None) => Err(AddError::NoInterface(interface.to_owned())),
        // ENODEV has no kind of its own.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENODEV => {
            Err(AddError::NoInterface(interface.to_owned()))
        }
        Err(error) => Err(netlink("find the interface")(error)),
    }
}

/// `errno(3)`, the same on every architecture that Linux has.
const ENODEV: i32 = 19;

fn kind(error: &rtnetlink::Error) -> Option<io::ErrorKind> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.to_io().kind()),
        _ => None,
    }
}

fn netlink(action: &'static str) -> impl FnOnce(rtnetlink::Error) -> AddError {
    move |error| AddError::Netlink { action, error }
}
