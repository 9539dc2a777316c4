"""A local stand-in for TCIA, QURE, DICOMaestro and CIRCUS: one process, real DICOM files, no patient."""
