-- The keys of users and folders as mailbox attributes; the maps are in dovecot-2.3.conf.sh and dovecot-2.4.conf.sh.
-- One pattern for all names would do for reading and writing, but Dovecot can list only where a pattern ends in one
-- name: so each kind of key has a table.
CREATE USER mail PASSWORD 'attributes';
CREATE DATABASE mail OWNER mail;
\connect mail
CREATE TABLE folder_active (
    mailbox text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (mailbox, name)
);
CREATE TABLE folder_pubkeys (
    mailbox text NOT NULL,
    id text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (mailbox, id)
);
CREATE TABLE folder_privkeys (
    username text NOT NULL,
    mailbox text NOT NULL,
    id text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (username, mailbox, id)
);
CREATE TABLE user_active (
    mailbox text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (mailbox, name)
);
CREATE TABLE user_pubkeys (
    mailbox text NOT NULL,
    id text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (mailbox, id)
);
CREATE TABLE user_privkeys (
    username text NOT NULL,
    mailbox text NOT NULL,
    id text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (username, mailbox, id)
);
CREATE TABLE user_slots (
    username text NOT NULL,
    mailbox text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (username, mailbox, name)
);
CREATE TABLE plain_private (
    username text NOT NULL,
    mailbox text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (username, mailbox, name)
);
CREATE TABLE plain_shared (
    mailbox text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (mailbox, name)
);
GRANT ALL ON ALL TABLES IN SCHEMA public TO mail;
